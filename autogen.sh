#!/bin/sh
# Makes ./configure out of configure.ac and Makefile.am; needed in a git checkout only.
exec autoreconf -fi
