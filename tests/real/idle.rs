//! A service with nothing to do does nothing: no processor, no disk, no requests, no growth.

use crate::support::machine::Machine;
use crate::support::service::{Site, Usage};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// LOFT_TEST_IDLE_SECONDS measures for longer.
fn window() -> Duration {
    let seconds = std::env::var("LOFT_TEST_IDLE_SECONDS").map_or(60, |text| text.parse().expect("seconds"));
    Duration::from_secs(seconds)
}

fn tell(when: &str, usage: &Usage) {
    let [resident, peak] = [usage.resident, usage.peak].map(|bytes| bytes as f64 / MIB as f64);
    println!("{when}: RSS {resident:.1} MiB (peak {peak:.1}), CPU {:?}", usage.cpu);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_idling_before_garage_costs_nothing() {
    let machine = Machine::single_user();
    let site = Site::behind_proxy(&machine.store.url());
    let mut service = site.watch();
    tell("after start", &service.usage());
    let mut paths = machine.build("small", 0..100);
    site.await_all(&paths, &mut service, Duration::from_secs(60));
    tell("after 100 paths", &service.usage());
    let (file, size) = (machine.at("large"), 500 * MIB);
    let mut noise = std::fs::File::open("/dev/urandom").expect("random bytes").take(size);
    std::io::copy(&mut noise, &mut std::fs::File::create(&file).expect("file")).expect("file");
    paths = vec![machine.add_file(&file)];
    site.await_all(&paths, &mut service, Duration::from_secs(120));
    tell("after 500 MiB", &service.usage());

    // Whatever follows a push has ended: connections are closed, the last looks have found nothing.
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(site.queued(), 0);
    let (before, requests, since) = (service.usage(), site.proxy().seen().len(), Instant::now());
    tell("when idling begins", &before);
    std::thread::sleep(window());
    let (after, elapsed) = (service.usage(), since.elapsed());
    tell("when it ends", &after);
    let cpu = (after.cpu - before.cpu).as_secs_f64() / elapsed.as_secs_f64();
    println!(
        "in {elapsed:?}: {:.4} % of a core, {} wake-ups, {} bytes written in {} calls, {} requests",
        cpu * 100.0,
        after.switches - before.switches,
        after.written_bytes - before.written_bytes,
        after.written_calls - before.written_calls,
        site.proxy().seen().len() - requests
    );
    service.signal("TERM");
    std::io::stdout().flush().expect("stdout");
    // A tick is a hundredth of a second: a minute at 0.1 % is six of them.
    assert!(cpu < 0.001, "{:.4} % of a core", cpu * 100.0);
    assert_eq!(after.written_bytes, before.written_bytes, "it wrote to the disk");
    assert_eq!(site.proxy().seen().len(), requests, "it asked the bucket");
    assert!(after.resident < before.resident + MIB, "it grows: {} to {}", before.resident, after.resident);
    assert!(after.resident < 30 * MIB, "{} bytes resident", after.resident);
}
