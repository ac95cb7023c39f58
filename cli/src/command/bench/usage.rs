//! What a broker's process takes: processor time and memory, as the kernel counts them, or its metrics.

use std::fs;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long metrics are waited for.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that is read of a page of metrics, in bytes.
const MAX_METRICS_BYTES: u64 = 16 << 20;

/// What was taken up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Seconds on processors, in the program and in the kernel for it.
    pub(crate) cpu_seconds: f64,
    /// Memory that is backed by no file (RssAnon), in bytes.
    pub(crate) anonymous_bytes: Option<u64>,
    /// Resident pages of mapped files (RssFile), in bytes: the kernel takes them back when it needs memory.
    pub(crate) mapped_bytes: Option<u64>,
}

/// Where it can be learned from.
#[derive(Debug, Clone)]
pub(crate) enum Meter {
    /// A process of this machine.
    Process(u32),
    /// The metrics pages of these brokers, `HOST:PORT`; processor time only.
    Metrics(Vec<String>),
    /// Nowhere.
    None,
}

impl Meter {
    /// Reads it; `None` where it cannot be learned.
    ///
    /// # Errors
    /// The process has ended, or the metrics cannot be had.
    pub(crate) async fn read(&self) -> io::Result<Option<Usage>> {
        match self {
            Self::Process(id) => read_process(*id).map(Some),
            Self::Metrics(addresses) => {
                let mut cpu_seconds = 0.0;
                for address in addresses {
                    cpu_seconds += read_metrics(address).await?;
                }
                Ok(Some(Usage {
                    cpu_seconds,
                    ..Usage::default()
                }))
            }
            Self::None => Ok(None),
        }
    }
}

fn read_process(id: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| invalid("/proc/PID/stat has no times"))?;
    #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are far away")]
    let cpu_seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(Usage {
        cpu_seconds,
        anonymous_bytes: status_bytes(&status, "RssAnon:"),
        mapped_bytes: status_bytes(&status, "RssFile:"),
    })
}

/// Ticks in user and kernel mode: fields 14 and 15 of `/proc/PID/stat` (proc(5)). The second field is the program's
/// name in parentheses, which may hold spaces and parentheses itself.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A line of `/proc/PID/status` such as `RssAnon:     1234 kB`, in bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Processor seconds from the metrics page of a broker.
async fn read_metrics(address: &str) -> io::Result<f64> {
    let page = tokio::time::timeout(METRICS_TIMEOUT, get_metrics(address)).await??;
    metric(&page, "process_cpu_seconds_total")
        .ok_or_else(|| invalid("the metrics have no process_cpu_seconds_total"))
}

/// A page is all that is ever asked for: HTTP/1.0 does, whose answer ends with the connection.
async fn get_metrics(address: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection
        .take(MAX_METRICS_BYTES)
        .read_to_end(&mut answer)
        .await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The value of a metric without labels in Prometheus' text format.
fn metric(page: &str, name: &str) -> Option<f64> {
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.split_ascii_whitespace().next()?.parse().ok())
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 700 33 0 0 20 0 9 0 1234 0 0";
        assert_eq!(cpu_ticks(stat), Some(733));
        assert_eq!(cpu_ticks("42 (a) S 1 42"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "VmRSS:\t    3000 kB\nRssAnon:\t    2000 kB\nRssFile:\t    1000 kB\n";
        assert_eq!(status_bytes(status, "RssAnon:"), Some(2000 * 1024));
        assert_eq!(status_bytes(status, "RssFile:"), Some(1000 * 1024));
        assert_eq!(status_bytes(status, "RssShmem:"), None);
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE process_cpu_seconds_total counter\n\
                    process_cpu_seconds_total_x 1\nprocess_cpu_seconds_total 12.5\n";
        assert_eq!(metric(page, "process_cpu_seconds_total"), Some(12.5));
        assert_eq!(metric(page, "process_start_time_seconds"), None);
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn this_process_has_memory() {
        let meter = Meter::Process(std::process::id());
        let usage = meter.read().await.unwrap().unwrap();
        assert!(usage.anonymous_bytes > Some(0), "{usage:?}");
    }
}
