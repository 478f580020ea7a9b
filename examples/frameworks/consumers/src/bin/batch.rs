//! A batch with a progress bar: Ctrl-C has it finish the record it is at, say how far it is, and
//! end with 0; the next run goes on from there.

use std::{
    fs::{self, OpenOptions},
    io::Write,
};

use graceful_consumers::work;
use indicatif::ProgressBar;

#[graceful::main(name = "batch")]
async fn main() -> std::io::Result<()> {
    let path = std::env::var("RECORDS").expect("RECORDS is set");
    let count: u64 = 200;
    let done = fs::read_to_string(&path).unwrap_or_default().lines().count() as u64;
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let (bar, shutdown) = (ProgressBar::new(count).with_position(done), graceful::shutdown());
    for record in done..count {
        if shutdown.has_started() {
            bar.abandon_with_message("stopped");
            println!("stopped after {} of {count}", bar.position());
            return Ok(());
        }
        work(&record.to_string()).await;
        writeln!(file, "{record}")?;
        bar.inc(1);
    }
    bar.finish();
    println!("all {count} are done");
    Ok(())
}
