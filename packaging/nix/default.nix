# default.nix: the package for Nix: nix-build packaging/nix
{ pkgs ? import <nixpkgs> { } }:
pkgs.stdenv.mkDerivation {
  pname = "pgmqd";
  version = "0.1.0";
  src = pkgs.lib.cleanSource ../..;
  nativeBuildInputs = with pkgs; [ autoreconfHook pkg-config ];
  buildInputs = with pkgs; [ libpq libevent curl cjson inih gmime3 libidn2 opendkim glib openssl cairo pango ];
  nativeCheckInputs = with pkgs; [ cmocka python3 ];
  configureFlags = [ "--sysconfdir=/etc" "--localstatedir=/var" "--with-systemdsystemunitdir=$(out)/lib/systemd/system" ];
  installFlags = [ "sysconfdir=$(out)/etc" ];
  doCheck = true;
  meta = {
    description = "Dispatcher of PostgreSQL queues (pgmq)";
    homepage = "https://pgmqd.example.test/";
    license = pkgs.lib.licenses.postgresql;
    platforms = pkgs.lib.platforms.linux;
    mainProgram = "pgmqd";
  };
}
