//! Arrays and ring ends: in arguments, results, events and constructors; and names that go.

use std::time::Duration;

use msgproc::prelude::*;
use shmring::{
    RecvError, SharedArray,
    ring::records::{Consumer, Producer, Records},
};
use testkit::{Test, test};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(arrays_travel_both_ways),
        test!(ring_ends_travel_after_the_start),
        test!(ring_ends_come_back_as_results_and_events),
        test!(a_ring_end_that_was_captured_works),
        test!(an_unsent_end_stays_where_it_is),
        test!(a_killed_backend_ends_the_wait_on_its_ring),
    ]
}

type Array = SharedArray<f64, ndarray::Ix1>;

/// Works on memory that it is handed.
#[derive(Default)]
struct Keeper {
    array: Option<Array>,
    input: Option<Consumer>,
    output: Option<Producer>,
}

#[backend(event = Producer)]
impl Keeper {
    fn c__take(&mut self, array: Array) {
        self.array = Some(array);
    }

    fn c__fill(&mut self, value: f64) -> Result<()> {
        self.array.as_mut().ok_or("no array")?.write()?.fill(value);
        Ok(())
    }

    fn c__make(&mut self, len: usize) -> Result<Array> {
        let mut array = Array::anonymous(len)?;
        array.write()?.fill(7.0);
        Ok(array)
    }

    fn c__connect(&mut self, input: Consumer, output: Producer) {
        (self.input, self.output) = (Some(input), Some(output));
    }

    fn c__pump(&mut self, count: usize) -> Result<()> {
        let input = self.input.as_mut().ok_or("no input")?;
        let output = self.output.as_mut().ok_or("no output")?;
        for _ in 0..count {
            let record = input.recv().map_err(Error::other)?;
            output.send(&*record).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn c__reader(&mut self) -> Result<Consumer> {
        let (output, input) = Records::options().anonymous()?.split()?;
        self.output = Some(output);
        Ok(input)
    }

    fn c__say(&mut self, text: String) -> Result<()> {
        let output = self.output.as_mut().ok_or("no output")?;
        output.send(&text).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn c__offer(&mut self, ctx: &mut Context<Producer>) -> Result<()> {
        let (output, input) = Records::options().anonymous()?.split()?;
        self.input = Some(input);
        ctx.emit(output)
    }

    fn c__hear(&mut self) -> Result<String> {
        let input = self.input.as_mut().ok_or("no input")?;
        let record = input.recv().map_err(Error::other)?;
        Ok(String::from_utf8_lossy(&record).into())
    }
}

fn keeper(name: &str) -> Result<MessageProcess<Keeper>> {
    MessageProcess::fork(name, |_: &Start| Keeper::default())
}

fn arrays_travel_both_ways() -> Result<()> {
    let mut keeper = keeper("arrays")?;
    let ours = Array::anonymous(1000)?;
    keeper.take(ours.try_clone()?).wait()?;
    keeper.fill(3.5).wait()?;
    assert!(ours.read()?.iter().all(|value| *value == 3.5));
    let theirs = keeper.make(10).wait()?;
    keeper.stop()?;
    assert_eq!(theirs.read()?.sum(), 70.0, "it outlives its maker");
    Ok(())
}

fn ring_ends_travel_after_the_start() -> Result<()> {
    let mut keeper = keeper("ends")?;
    let (mut to, input) = Records::options().anonymous()?.split()?;
    let (output, mut from) = Records::options().anonymous()?.split()?;
    keeper.connect(input, output).wait()?;
    let pumping = keeper.pump(1000).send()?;
    for n in 0..1000u32 {
        to.send(n.to_ne_bytes()).unwrap();
        assert_eq!(*from.recv().unwrap(), n.to_ne_bytes());
    }
    pumping.wait()?;
    drop(to);
    let error = keeper.pump(1).wait().unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    keeper.stop()?;
    assert!(matches!(from.recv(), Err(RecvError::Closed)));
    Ok(())
}

fn ring_ends_come_back_as_results_and_events() -> Result<()> {
    let mut keeper = keeper("results")?;
    let mut reader = keeper.reader().wait()?;
    keeper.say("down the ring".into()).wait()?;
    assert_eq!(&*reader.recv().unwrap(), b"down the ring");
    keeper.offer().wait()?;
    let Some(Event::Emitted(mut writer)) = keeper.next_event(Duration::ZERO)? else {
        panic!("there was an event before the reply");
    };
    writer.send("up the ring").unwrap();
    assert_eq!(keeper.hear().wait()?, "up the ring");
    keeper.stop()
}

fn a_ring_end_that_was_captured_works() -> Result<()> {
    let (mut to, input) = Records::options().anonymous()?.split()?;
    let mut input = Some(input);
    let mut keeper = MessageProcess::fork("captured", move |_: &Start| Keeper {
        input: input.take(),
        ..Keeper::default()
    })?;
    to.send("through the fork").unwrap();
    assert_eq!(keeper.hear().wait()?, "through the fork");
    keeper.stop()
}

fn an_unsent_end_stays_where_it_is() -> Result<()> {
    let mut keeper = keeper("unsent")?;
    let (mut to, mut from) = Records::options().anonymous()?.split()?;
    keeper.stop()?;
    let (other, _rest) = Records::options().anonymous()?.split()?;
    let (_, input) = Records::options().anonymous()?.split()?;
    assert!(keeper.connect(input, other).wait().is_err());
    to.send("still ours").unwrap();
    assert_eq!(&*from.recv().unwrap(), b"still ours");
    Ok(())
}

fn a_killed_backend_ends_the_wait_on_its_ring() -> Result<()> {
    let keeper = keeper("killed")?;
    let mut reader = keeper.reader().wait()?;
    keeper.say("last".into()).wait()?;
    let pid = keeper.pid();
    testkit::kill9(pid);
    assert_eq!(&*reader.recv().unwrap(), b"last");
    let end = reader.recv_timeout(Duration::from_secs(5));
    assert!(
        matches!(&end, Err(RecvError::PeerDied { pid: who }) if *who == pid),
        "{:?}",
        end.err()
    );
    drop(end);
    assert!(keeper.exit().is_some());
    Ok(())
}
