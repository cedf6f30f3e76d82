//! A ring of records, made while the process runs, that carries data to it.

use msgproc::prelude::*;
use shmring::{
    RecvError,
    ring::records::{Consumer, Records},
};

struct Adder;

#[backend]
impl Adder {
    /// Adds up what comes, until the ring is closed.
    fn c__add_up(&mut self, mut numbers: Consumer) -> Result<(u64, u64)> {
        let (mut count, mut sum) = (0, 0);
        loop {
            match numbers.recv() {
                Ok(record) => {
                    let number = record[..].try_into().map_err(Error::other)?;
                    count += 1;
                    sum += u64::from_le_bytes(number);
                }
                Err(RecvError::Closed) => return Ok((count, sum)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn main() -> Result<()> {
    let mut adder = MessageProcess::fork("my-process", |_| Adder)?;

    let (mut producer, consumer) = Records::options().capacity(1 << 16).anonymous()?.split()?;
    let reply = adder.add_up(consumer).send()?;
    for number in 1..=100_000_u64 {
        producer.send(number.to_le_bytes())?;
    }
    drop(producer);

    let (count, sum) = reply.wait()?;
    println!("main: {count} numbers went through the ring, their sum is {sum}");
    adder.stop()
}
