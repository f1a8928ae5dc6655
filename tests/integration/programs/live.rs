// live FILE READS SCHEMA: as live.c, in Rust without a crate. dlopen and dlsym are the C library's.
use std::ffi::CString;
use std::os::raw::{c_char, c_int, c_void};

extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

#[repr(C)]
#[derive(Default)]
struct Level {
    price: f64,
    count: u32,
}

#[repr(C)]
#[derive(Default)]
struct Origin {
    x: i16,
    y: i16,
}

#[repr(C)]
#[derive(Default)]
struct Live {
    seq: u64,
    neg: i64,
    half: f64,
    third: f32,
    low: u32,
    byte: u8,
    odd: bool,
    venue: [u8; 16],
    blob: [u8; 12],
    depth: [f64; 10],
    levels: [Level; 3],
    origin: Origin,
}

unsafe fn function(library: *mut c_void, name: &str) -> *mut c_void {
    let found = dlsym(library, CString::new(name).unwrap().as_ptr());
    assert!(!found.is_null(), "no function {name}");
    found
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let reads: u64 = words[2].parse().unwrap();
    let schema: u64 = words[3].parse().unwrap();
    let (mut versions, mut last) = (0u64, 0u64);
    unsafe {
        let library = dlopen(CString::new(words[1].as_str()).unwrap().as_ptr(), 2);
        assert!(!library.is_null(), "dlopen");
        let snapshot_of: extern "C" fn(*mut Live, u64, *mut u64) -> c_int =
            std::mem::transmute(function(library, "live_snapshot_of"));
        let half: extern "C" fn() -> f64 = std::mem::transmute(function(library, "live_half.f64"));
        let version: extern "C" fn() -> u64 = std::mem::transmute(function(library, "live_version"));
        let mut i = 0;
        while i < reads || versions < 100 {
            i += 1;
            let mut r = Live::default();
            let mut n = 0u64;
            let answer = snapshot_of(&mut r, schema, &mut n);
            if answer == 2 {
                continue; // lapped
            }
            assert_eq!(answer, 0);
            assert!(r.seq == n && n >= last);
            assert!(r.neg == -(n as i64) && r.half == n as f64 / 2.0 && r.third == (n % 4096) as f32 / 4.0);
            assert!(r.low == n as u32 && r.byte == n as u8 && r.odd == (n % 2 == 1));
            let text = format!("v{}", n % 100000000000000);
            assert_eq!(std::str::from_utf8(&r.venue).unwrap().trim_end_matches('\0'), text);
            assert!(r.blob.iter().all(|&b| b == n as u8));
            assert!(r.depth.iter().enumerate().all(|(i, &d)| d == (n + i as u64) as f64));
            assert!(r.levels.iter().enumerate().all(|(i, l)| l.price == (n * (i as u64 + 1)) as f64
                && l.count == (n + i as u64) as u32));
            assert!(r.origin.x == n as i16 && r.origin.y == !n as i16);
            let (before, value, after) = (version(), half(), version());
            assert!(before as f64 / 2.0 <= value && value <= after as f64 / 2.0);
            versions += (n != last) as u64;
            last = n;
        }
    }
    println!("{versions}");
}
