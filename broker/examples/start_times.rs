//! How long a broker inside another program takes to start: twenty times each in memory and on disk.

use std::time::{Duration, Instant};

use highwater_broker::{Broker, BrokerBuilder, Error};

const STARTS: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let root = std::env::temp_dir().join(format!("highwater-start-times-{}", std::process::id()));
    let hidden = |_| Broker::builder().in_memory().without_ports();
    measure("in memory, without ports", hidden).await?;
    let in_memory = |_| Broker::builder().in_memory();
    measure("in memory, with a port", in_memory).await?;
    let new = |number: usize| Broker::builder().data_dir(root.join(number.to_string()));
    measure("in a new directory", new).await?;
    measure("in a directory that is there", |_| new(0)).await?;
    if let Err(error) = std::fs::remove_dir_all(&root) {
        eprintln!("{} is left: {error}", root.display());
    }
    Ok(())
}

async fn measure(what: &str, builder: impl Fn(usize) -> BrokerBuilder) -> Result<(), Error> {
    let mut times = Vec::new();
    for number in 0..STARTS {
        let builder = builder(number);
        let began = Instant::now();
        let broker = builder.start().await?;
        times.push(began.elapsed());
        broker.shutdown().await;
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{what}: median {:.1} ms, least {:.1} ms, most {:.1} ms",
        ms(times[STARTS / 2]),
        ms(times[0]),
        ms(times[STARTS - 1])
    );
    Ok(())
}
