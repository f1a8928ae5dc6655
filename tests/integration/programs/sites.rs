//! Reads the clock for ever by Rust's own means.
use std::hint::black_box;
use std::time::{Instant, SystemTime};

struct Meter<T>(T);

impl<T: Copy> Meter<T> {
    #[inline(never)]
    fn elapsed(&self, since: Instant) -> u128 {
        since.elapsed().as_nanos() + 1
    }
}

#[inline(never)]
fn system() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() + 1
}

fn main() {
    let start = Instant::now();
    let meter = Meter(3u8);
    loop {
        black_box(meter.elapsed(start));
        black_box(system());
    }
}
