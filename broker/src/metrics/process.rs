//! The process as the operating system sees it. On Linux; elsewhere most of it stays 0.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, Gauge, IntGauge};

use super::catalog::Catalog;

#[derive(Debug)]
pub(super) struct Process {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    anonymous_bytes: IntGauge,
    threads: IntGauge,
    open_files: IntGauge,
    max_files: IntGauge,
}

impl Process {
    pub(super) fn new(catalog: &mut Catalog) -> Self {
        catalog.section("Process");
        let build = catalog.gauges(
            "highwater_build_info",
            "Always 1; the version is in its label",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let started: Gauge = catalog.real_gauge(
            "highwater_start_time_seconds",
            "When the broker started, in seconds since the Unix epoch",
        );
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        started.set(since.unwrap_or_default().as_secs_f64());
        Self {
            cpu_seconds: catalog.real_counter(
                "highwater_process_cpu_seconds_total",
                "CPU time of the process, in all of its threads, in and out of the kernel",
            ),
            resident_bytes: catalog.gauge(
                "highwater_process_resident_memory_bytes",
                "Memory of the process, mapped segments included: the operating system takes those back when it needs to",
            ),
            anonymous_bytes: catalog.gauge(
                "highwater_process_anonymous_memory_bytes",
                "Memory of the process without mapped files: what it really needs",
            ),
            threads: catalog.gauge("highwater_process_threads", "Threads of the process"),
            open_files: catalog.gauge(
                "highwater_process_open_fds",
                "Open file descriptors, connections among them",
            ),
            max_files: catalog.gauge(
                "highwater_process_max_fds",
                "File descriptors that the process may open",
            ),
        }
    }

    pub(super) fn read(&self) {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = std::time::Duration::try_from(cpu).unwrap_or_default();
        self.cpu_seconds
            .inc_by((cpu.as_secs_f64() - self.cpu_seconds.get()).max(0.0));
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            let kib = |name| field(&status, name).unwrap_or(0).saturating_mul(1024);
            self.resident_bytes.set(kib("VmRSS:"));
            self.anonymous_bytes.set(kib("RssAnon:"));
            self.threads.set(field(&status, "Threads:").unwrap_or(0));
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // The one that lists them is among them.
            let open = open.count().saturating_sub(1);
            self.open_files.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.and_then(|limit| i64::try_from(limit).ok());
        self.max_files.set(limit.unwrap_or(i64::MAX));
    }
}

/// The number after `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        let status = "Name:\tx\nVmRSS:\t    8332 kB\nRssAnon:\t    100 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(8332));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!(field(status, "Pss:"), None);
    }

    #[test]
    fn cpu_time_grows() {
        let process = Process::new(&mut Catalog::default());
        process.read();
        let first = process.cpu_seconds.get();
        assert!(first > 0.0);
        process.read();
        assert!(process.cpu_seconds.get() >= first);
    }
}
