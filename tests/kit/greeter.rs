// greeter.rs: a plugin in Rust. It declares what it uses of pgmqd-plugin.h, and needs no crate.
use std::ffi::{c_void, CStr, CString};
use std::os::raw::{c_char, c_int};
use std::ptr;

const PGMQD_API_VERSION: u32 = 1;
const PGMQD_STRING: u32 = 1;

#[repr(C)]
pub struct Msg {
    _private: [u8; 0],
}

#[repr(C)]
struct PluginOption {
    name: *const c_char,
    kind: u32,
    required: u32,
    offset: usize,
    def: *const c_char,
    doc: *const c_char,
    env: *const c_char,
    choices: *const c_char,
}

// The fields up to `replay`: `struct_size` tells the host how much of the description there is.
#[repr(C)]
pub struct Plugin {
    struct_size: u32,
    api_version: u32,
    option_size: u32,
    max_in_flight: u32,
    name: *const c_char,
    version: *const c_char,
    summary: *const c_char,
    options: *const PluginOption,
    handle_size: usize,
    config_complete: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    start: Option<unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int>,
    deliver: Option<unsafe extern "C" fn(*mut c_void, *mut Msg)>,
    cancel: Option<unsafe extern "C" fn(*mut c_void, *mut Msg)>,
    stop: Option<unsafe extern "C" fn(*mut c_void)>,
    check: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
    replay: *const c_char,
}

extern "C" {
    fn pgmqd_msg_str(m: *mut Msg, pointer: *const c_char) -> *const c_char;
    fn pgmqd_retry(m: *mut Msg, delay_ms: i64, format: *const c_char, ...);
    fn pgmqd_fail(m: *mut Msg, format: *const c_char, ...);
}

// What the host allocates and fills in: `offset` of the option says where.
#[repr(C)]
struct Greeter {
    greeting: *const c_char,
}

// A NUL-terminated text of the program itself.
macro_rules! text {
    ($s:expr) => {
        concat!($s, "\0").as_ptr() as *const c_char
    };
}

// A panic must not leave Rust, so this returns an error, and deliver() is the one that settles.
unsafe fn greet(greeter: &Greeter, m: *mut Msg) -> Result<CString, &'static str> {
    let name = pgmqd_msg_str(m, text!("/name"));
    if name.is_null() {
        return Err("the message has no \"name\"");
    }
    let greeting = CStr::from_ptr(greeter.greeting).to_string_lossy();
    CString::new(format!("{}, {}", greeting, CStr::from_ptr(name).to_string_lossy())).map_err(|_| "a name with a NUL")
}

unsafe extern "C" fn deliver(handle: *mut c_void, m: *mut Msg) {
    match greet(&*(handle as *const Greeter), m) {
        Ok(greeting) => pgmqd_retry(m, 0, text!("%s"), greeting.as_ptr()),
        Err(reason) => {
            let reason = CString::new(reason).unwrap_or_default();
            pgmqd_fail(m, text!("%s"), reason.as_ptr())
        }
    }
}

/// The symbol by which the host finds the plugin. The description lives as long as the process.
#[no_mangle]
pub extern "C" fn pgmqd_plugin_init() -> *mut Plugin {
    let end = || PluginOption {
        name: ptr::null(),
        kind: 0,
        required: 0,
        offset: 0,
        def: ptr::null(),
        doc: ptr::null(),
        env: ptr::null(),
        choices: ptr::null(),
    };
    let greeting = PluginOption {
        name: text!("greeting"),
        kind: PGMQD_STRING,
        def: text!("Hello"),
        doc: text!("Word to greet with."),
        ..end()
    };
    let options = Box::leak(Box::new([greeting, end()]));

    Box::leak(Box::new(Plugin {
        struct_size: std::mem::size_of::<Plugin>() as u32,
        api_version: PGMQD_API_VERSION,
        option_size: std::mem::size_of::<PluginOption>() as u32,
        max_in_flight: 0,
        name: text!("greeter"),
        version: text!("1.0"),
        summary: text!("greets"),
        options: options.as_ptr(),
        handle_size: std::mem::size_of::<Greeter>(),
        config_complete: None,
        start: None,
        deliver: Some(deliver),
        cancel: None,
        stop: None,
        check: None,
        replay: ptr::null(),
    }))
}
