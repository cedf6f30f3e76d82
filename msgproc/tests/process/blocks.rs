//! Pools and blocks in arguments, results, events and start state; and that none is lost on the
//! way, whoever dies or lets go.

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
};

use msgproc::prelude::*;
use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use serde::{Deserialize, Serialize};
use shmring::{
    RecvError, SharedArray,
    block::{Block, BlockPool, Loan},
    ring::records::{Consumer, Producer, Records},
};
use testkit::{Process, Test, test};

use crate::common::SOON;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(they_travel_as_arguments_results_and_events),
        test!(a_pool_can_be_made_on_either_side),
        test!(a_block_is_forwarded_without_a_copy),
        test!(a_message_of_many_parts),
        test!(hundreds_of_blocks_in_one_message),
        test!(the_same_block_in_more_messages_than_are_counted),
        test!(what_a_constructor_captured_is_there_at_each_start),
        test!(a_call_that_is_never_sent),
        test!(a_call_that_finds_no_room),
        test!(calls_that_are_refused),
        test!(a_call_that_is_taken_back),
        test!(a_handler_that_panics),
        test!(replies_and_events_that_nobody_takes),
        test!(what_lies_behind_a_stop),
        test!(killed_with_messages_in_its_socket),
        test!(killed_with_blocks_and_loans),
        test!(killed_while_it_emits),
        test!(killed_before_it_is_told),
        test!(what_came_before_a_death_can_be_taken_after_it),
        test!(a_loan_that_waits_gets_what_the_dead_held),
        test!(a_restart_carries_on_with_the_same_pool),
        test!(many_deaths_use_up_nothing),
        test!(a_third_process_gets_back_what_a_frontend_held),
        test!(a_third_process_gets_back_what_both_held),
        test!(a_ring_end_in_the_socket_of_the_dead),
        test!(a_ring_end_in_a_message_that_nobody_reads),
        test!(a_ring_end_in_a_result_that_nobody_takes),
    ]
}

const LEN: usize = 4096;

fn pool(blocks: usize) -> BlockPool {
    BlockPool::options().blocks(blocks).block_len(LEN).prefault(false).anonymous().unwrap()
}

fn filled(pool: &BlockPool, with: u8) -> Block {
    let mut loan = pool.try_loan().unwrap();
    loan.as_bytes_mut().fill(with);
    loan.freeze()
}

type Array = SharedArray<f64, ndarray::Ix1>;

/// All that can stand beside a block.
#[derive(Serialize, Deserialize)]
struct Parts {
    number: u32,
    first: Block,
    pipe: Descriptor,
    maybe: Option<Block>,
    array: Array,
    many: Vec<(String, Block)>,
    pool: BlockPool,
    input: Consumer,
}

/// Keeps blocks.
#[derive(Default)]
struct Holder {
    pool: Option<BlockPool>,
    kept: Vec<Block>,
    loans: Vec<Loan>,
    input: Option<Consumer>,
}

impl Holder {
    fn pool(&self) -> Result<&BlockPool> {
        self.pool.as_ref().ok_or("no pool".into())
    }
}

#[backend(event = Block)]
impl Holder {
    fn c__take_pool(&mut self, pool: BlockPool) {
        self.pool = Some(pool);
    }

    fn c__make_pool(&mut self, blocks: usize) -> BlockPool {
        self.pool.insert(pool(blocks)).clone()
    }

    fn c__keep(&mut self, blocks: Vec<Block>) -> usize {
        self.kept.extend(blocks);
        self.kept.len()
    }

    fn c__read(&mut self, block: Block) -> (usize, u8) {
        let bytes = block.as_bytes();
        assert!(bytes.len() == LEN && bytes.iter().all(|byte| *byte == bytes[0]));
        (block.index(), bytes[0])
    }

    fn c__echo(&mut self, block: Block) -> Block {
        block
    }

    fn c__twice(&mut self, one: Block, other: Block) -> (Block, Block) {
        assert_eq!(one.index(), other.index());
        (one, other)
    }

    fn c__fill(&mut self, with: u8, count: usize) -> Result<Vec<Block>> {
        let pool = self.pool()?;
        Ok((0..count).map(|_| filled(pool, with)).collect())
    }

    fn c__emit(&mut self, with: u8, count: usize, ctx: &mut Context<Block>) -> Result<()> {
        for _ in 0..count {
            ctx.emit(filled(self.pool()?, with))?;
        }
        Ok(())
    }

    fn c__emit_this(&mut self, block: Block, times: usize, ctx: &mut Context<Block>) -> Result<()> {
        (0..times).try_for_each(|_| ctx.emit(block.clone()))
    }

    fn c__emit_for_ever(&mut self, ctx: &mut Context<Block>) -> Result<()> {
        loop {
            let loan = self.pool()?.loan().map_err(Error::other)?;
            ctx.emit(loan.freeze())?;
        }
    }

    fn c__loan(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let loan = self.pool()?.try_loan().map_err(Error::other)?;
            self.loans.push(loan);
        }
        Ok(())
    }

    fn c__parts(&mut self, mut parts: Parts) -> Result<Parts> {
        assert_eq!(parts.array.read()?.sum(), 6.0);
        assert_eq!(&*parts.input.recv().map_err(Error::other)?, b"a record");
        let mut pipe = std::fs::File::from(OwnedFd::from(parts.pipe));
        pipe.write_all(&[parts.first.as_bytes()[0]])?;
        parts.pipe = OwnedFd::from(pipe).into();
        Ok(parts)
    }

    fn c__panic(&mut self, block: Block, blocks: Vec<Block>) {
        panic!("with block {} and {} more", block.index(), blocks.len());
    }

    fn c__number(&mut self, number: u32) -> u32 {
        number
    }

    fn c__bytes(&mut self, _bytes: Vec<u8>) {}

    fn c__hear(&mut self, mut input: Consumer) -> Result<String> {
        let record = input.recv().map_err(Error::other)?;
        Ok(String::from_utf8_lossy(&record).into())
    }

    fn c__offer(&mut self) -> Result<Producer> {
        let (output, input) = Records::options().anonymous()?.split()?;
        self.input = Some(input);
        Ok(output)
    }

    fn c__hear_the_end(&mut self) -> Result<bool> {
        let mut input = self.input.take().ok_or("no input")?;
        let closed = matches!(input.recv_timeout(SOON), Err(RecvError::Closed));
        Ok(closed)
    }
}

type Starter = fn(&str) -> Result<MessageProcess<Holder>>;

/// The two ways to start a backend.
const KINDS: [Starter; 2] = [
    |name| MessageProcess::fork(name, |_: &Start| Holder::default()),
    |name| MessageProcess::thread(name, |_: &Start| Holder::default()),
];

fn holder(name: &str) -> MessageProcess<Holder> {
    KINDS[0](name).unwrap()
}

/// A backend that has the pool.
fn sharing(name: &str, pool: &BlockPool) -> MessageProcess<Holder> {
    let holder = holder(name);
    holder.take_pool(pool.clone()).wait().unwrap();
    holder
}

/// Whoever sends a value lets go of it right after.
fn comes_to(pool: &BlockPool, count: usize) {
    let came = testkit::wait_until(SOON, || pool.in_use() == count);
    assert!(came, "{} blocks in use, not {count}", pool.in_use());
}

/// Stops a process where it is, as a signal from outside would.
fn freeze(process: &MessageProcess<Holder>) {
    testkit::signal(process.pid(), libc::SIGSTOP);
    let pid = process.pid();
    assert!(testkit::wait_until(SOON, || testkit::state_of(pid) == Some('T')));
}

/// Kills a process, and waits until its frontend has seen that.
fn kill(process: &MessageProcess<Holder>) {
    testkit::kill9(process.pid());
    loop {
        match process.next_event(SOON).unwrap().expect("it ends") {
            Event::Ended(exit) => {
                return assert!(matches!(exit.how, How::Signal { number: 9, .. }));
            }
            other => drop(other),
        }
    }
}

fn they_travel_as_arguments_results_and_events() -> Result<()> {
    for start in KINDS {
        let pool = pool(8);
        let mut holder = start("travel")?;
        holder.take_pool(pool.clone()).tell()?;

        let block = filled(&pool, 7);
        assert_eq!(holder.read(block.clone()).wait()?, (block.index(), 7));
        let reply = holder.read(block.clone()).send()?;
        holder.keep(vec![filled(&pool, 1), filled(&pool, 2), block.clone()]).tell()?;
        assert_eq!(reply.wait()?, (block.index(), 7));
        assert_eq!(holder.keep(vec![]).wait()?, 3);
        drop(block);
        assert_eq!(pool.in_use(), 3, "the backend keeps them");

        let (one, other) = {
            let block = filled(&pool, 9);
            holder.twice(block.clone(), block).wait()?
        };
        assert_eq!((one.index(), one.as_bytes()[0]), (other.index(), 9));
        drop((one, other));
        comes_to(&pool, 3);

        let blocks = holder.fill(4, 3).wait()?;
        assert!(blocks.iter().all(|block| block.as_bytes()[LEN - 1] == 4));
        drop(blocks);
        holder.emit(5, 2).wait()?;
        for _ in 0..2 {
            let Some(Event::Emitted(block)) = holder.next_event(SOON)? else { panic!("an event") };
            assert_eq!(block.as_bytes()[0], 5);
        }
        comes_to(&pool, 3);
        holder.stop()?;
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}

fn a_pool_can_be_made_on_either_side() -> Result<()> {
    let mut holder = holder("makes");
    let pool = holder.make_pool(4).wait()?;
    let block = holder.echo(filled(&pool, 3)).wait()?;
    let theirs = holder.fill(8, 1).wait()?;
    assert!(theirs[0].pool().is_same(&pool));
    holder.stop()?;
    assert_eq!((block.as_bytes()[0], theirs[0].as_bytes()[0]), (3, 8), "they outlive its maker");
    assert_eq!(pool.in_use(), 2);
    drop((block, theirs));
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

fn a_block_is_forwarded_without_a_copy() -> Result<()> {
    let pool = pool(2);
    let (mut one, mut other) = (holder("first"), holder("second"));
    let block = filled(&pool, 6);
    let (index, address) = (block.index(), block.as_bytes().as_ptr());
    let block = one.echo(block).wait()?;
    let block = other.echo(block).wait()?;
    assert_eq!((block.index(), block.as_bytes().as_ptr()), (index, address));
    assert_eq!(one.read(block).wait()?, (index, 6));
    comes_to(&pool, 0);
    assert_eq!(pool.stats().loans, 1);
    one.stop()?;
    other.stop()
}

fn a_message_of_many_parts() -> Result<()> {
    for start in KINDS {
        let (pool, other) = (pool(4), pool(4));
        let mut holder = start("parts")?;
        let (mut reading, writing) = std::io::pipe()?;
        let (mut to, input) = Records::options().anonymous()?.split()?;
        to.send("a record").unwrap();
        let mut array = Array::anonymous(3)?;
        array.write()?.fill(2.0);
        let parts = Parts {
            number: 17,
            first: filled(&pool, 1),
            pipe: OwnedFd::from(writing).into(),
            maybe: Some(filled(&other, 2)),
            array,
            many: (3..5).map(|with| (with.to_string(), filled(&pool, with))).collect(),
            pool: other.clone(),
            input,
        };
        let mut parts = holder.parts(parts).wait()?;
        let mut byte = [0];
        reading.read_exact(&mut byte)?;
        assert_eq!((parts.number, byte), (17, [1]));
        assert_eq!(parts.maybe.as_ref().unwrap().as_bytes()[0], 2);
        assert!(parts.many.iter().all(|(text, block)| *text == block.as_bytes()[0].to_string()));
        assert!(parts.pool.is_same(&other));
        to.send("another").unwrap();
        assert_eq!(&*parts.input.recv().unwrap(), b"another");
        drop(parts);
        comes_to(&pool, 0);
        comes_to(&other, 0);
        holder.stop()?;
    }
    Ok(())
}

fn hundreds_of_blocks_in_one_message() -> Result<()> {
    let pool = pool(600);
    let mut holder = holder("many");
    holder.take_pool(pool.clone()).wait()?;
    let blocks: Vec<Block> = (0..300).map(|n| filled(&pool, n as u8)).collect();
    assert_eq!(holder.keep(blocks.clone()).wait()?, 300);
    assert_eq!(holder.fill(3, 300).wait()?.len(), 300);
    comes_to(&pool, 300);
    drop(blocks);
    holder.stop()?;
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

fn the_same_block_in_more_messages_than_are_counted() -> Result<()> {
    for start in KINDS {
        let pool = pool(1);
        let mut holder = start("same")?;
        // All of them are there, and none is taken, before the reply is.
        for taken in [0, 300] {
            holder.emit_this(filled(&pool, 1), 300).wait()?;
            for _ in 0..taken {
                let event = holder.next_event(SOON)?;
                assert!(matches!(&event, Some(Event::Emitted(block)) if block.len() == LEN));
            }
            if taken == 0 {
                holder.restart()?;
            }
            comes_to(&pool, 0);
        }
        holder.stop()?;
    }
    Ok(())
}

fn what_a_constructor_captured_is_there_at_each_start() -> Result<()> {
    let pool = pool(4);
    let block = filled(&pool, 11);
    let index = block.index();
    let captured = (pool.clone(), block.clone());
    let mut holder = MessageProcess::fork("captures", move |_: &Start| Holder {
        pool: Some(captured.0.clone()),
        kept: vec![captured.1.clone()],
        ..Holder::default()
    })?;
    for start in 1..=3 {
        assert_eq!(holder.keep(vec![]).wait()?, 1);
        assert_eq!(holder.read(block.clone()).wait()?, (index, 11));
        assert_eq!(holder.fill(2, 1).wait()?[0].as_bytes()[0], 2);
        if start % 2 == 0 {
            kill(&holder);
        }
        holder.restart()?;
    }
    drop(block);
    assert_eq!(pool.in_use(), 1, "the constructor keeps it for the next start");
    holder.stop()?;
    drop(holder);
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

fn a_call_that_is_never_sent() -> Result<()> {
    for start in KINDS {
        let pool = pool(2);
        let mut holder = start("unsent")?;
        let call = holder.keep(vec![filled(&pool, 1), filled(&pool, 2)]);
        assert_eq!(pool.in_use(), 2);
        drop(call);
        assert_eq!(pool.in_use(), 0);

        // One that cannot be put into bytes, beside blocks that were already on their way.
        let bad = (vec![filled(&pool, 1)], Unserializable);
        let error = holder.call::<_, ()>("keep", bad).wait().unwrap_err();
        assert!(matches!(error, Error::Unsendable { .. }), "{error:?}");
        assert_eq!(pool.in_use(), 0);
        holder.stop()?;
        let error = holder.keep(vec![filled(&pool, 3)]).tell().unwrap_err();
        assert!(matches!(error, Error::Stopped { .. }), "{error:?}");
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}

struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

fn a_call_that_finds_no_room() -> Result<()> {
    let pool = pool(2);
    let mut holder = holder("full");
    freeze(&holder);
    while holder.bytes(vec![0; 20_000]).try_tell().is_ok() {}
    while holder.bytes(vec![]).try_tell().is_ok() {}
    let block = filled(&pool, 1);
    let error = holder.keep(vec![block.clone(), filled(&pool, 2)]).try_tell().unwrap_err();
    assert!(matches!(error, Error::QueueFull { .. }), "{error:?}");
    assert_eq!(pool.in_use(), 1);
    drop(block);
    assert_eq!(pool.in_use(), 0);
    testkit::signal(holder.pid(), libc::SIGCONT);
    holder.stop()
}

fn calls_that_are_refused() -> Result<()> {
    for start in KINDS {
        let pool = pool(4);
        let mut holder = start("refuses")?;
        let blocks = || (filled(&pool, 1), vec![filled(&pool, 2)]);
        let error = holder.call::<_, ()>("nothing", blocks()).wait().unwrap_err();
        assert!(matches!(error, Error::UnknownCommand { .. }), "{error:?}");
        assert_eq!(pool.in_use(), 0);
        // Of the wrong type from the start; too few; too many.
        let error = holder.call::<_, ()>("number", ("text", blocks())).wait().unwrap_err();
        assert!(matches!(error, Error::BadArguments { .. }), "{error:?}");
        assert_eq!(pool.in_use(), 0);
        let error = holder.call::<_, ()>("twice", (filled(&pool, 1),)).wait().unwrap_err();
        assert!(matches!(error, Error::BadArguments { .. }), "{error:?}");
        assert_eq!(pool.in_use(), 0);
        let error = holder.call::<_, ()>("read", blocks()).wait().unwrap_err();
        assert!(matches!(error, Error::BadArguments { .. }), "{error:?}");
        assert_eq!(pool.in_use(), 0);
        // A result that is not of the type that is asked for.
        let asked = holder.call::<_, (u8, u8)>("echo", (filled(&pool, 1),)).wait();
        assert!(matches!(asked, Err(Error::BadReply { .. })), "{asked:?}");
        comes_to(&pool, 0);
        holder.stop()?;
    }
    Ok(())
}

fn a_call_that_is_taken_back() -> Result<()> {
    let pool = pool(1);
    let mut holder = holder("cancelled");
    freeze(&holder);
    holder.keep(vec![filled(&pool, 1)]).send()?.cancel();
    assert_eq!(pool.in_use(), 1);
    testkit::signal(holder.pid(), libc::SIGCONT);
    assert_eq!(holder.keep(vec![]).wait()?, 0);
    assert_eq!(pool.in_use(), 0);
    holder.stop()
}

fn a_handler_that_panics() -> Result<()> {
    for start in KINDS {
        let pool = pool(4);
        let holder = start("panics")?;
        holder.keep(vec![filled(&pool, 1)]).wait()?;
        let behind = {
            let panics = holder.panic(filled(&pool, 2), vec![filled(&pool, 3)]).send()?;
            let behind = holder.keep(vec![filled(&pool, 4)]).send();
            assert!(matches!(panics.wait(), Err(Error::Panicked { .. })));
            behind
        };
        assert!(behind.and_then(Reply::wait).is_err());
        assert!(matches!(holder.next_event(SOON)?, Some(Event::Ended(_))));
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}

fn replies_and_events_that_nobody_takes() -> Result<()> {
    for start in KINDS {
        let pool = pool(8);
        let mut holder = start("untaken")?;
        holder.take_pool(pool.clone()).wait()?;
        // One that is dropped before it comes, and one after.
        drop(holder.fill(1, 2).send()?);
        holder.number(1).wait()?;
        comes_to(&pool, 0);
        let reply = holder.fill(1, 2).send()?;
        assert!(testkit::wait_until(SOON, || reply.is_ready()));
        comes_to(&pool, 2);
        drop(reply);
        assert_eq!(pool.in_use(), 0);

        holder.emit(1, 3).wait()?;
        assert!(holder.stop().is_ok());
        assert_eq!(pool.in_use(), 3, "they can still be taken");
        assert!(matches!(holder.next_event(SOON)?, Some(Event::Emitted(_))));
        assert_eq!(pool.in_use(), 2);
        drop(holder);
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}

fn what_lies_behind_a_stop() -> Result<()> {
    for start in KINDS {
        let pool = pool(8);
        let holder = start("behind")?;
        // It leaves at once, and what comes after that is read by nobody.
        holder.call::<_, ()>("panic", (filled(&pool, 1), Vec::<Block>::new())).tell()?;
        for with in 2..6 {
            let _ = holder.keep(vec![filled(&pool, with)]).tell();
        }
        while !matches!(holder.next_event(SOON)?, Some(Event::Ended(_))) {}
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}

fn killed_with_messages_in_its_socket() -> Result<()> {
    let pool = pool(8);
    let holder = sharing("unread", &pool);
    freeze(&holder);
    let first = filled(&pool, 1);
    holder.keep(vec![first.clone(), filled(&pool, 2)]).tell()?;
    let reply = holder.echo(filled(&pool, 3)).send()?;
    holder.keep(vec![first]).tell()?;
    assert_eq!(pool.in_use(), 3);
    kill(&holder);
    assert_eq!(pool.in_use(), 0);
    assert!(matches!(reply.wait(), Err(Error::PeerDied { .. })));

    // A process that has never seen the pool.
    let holder = self::holder("stranger");
    freeze(&holder);
    holder.keep(vec![filled(&pool, 1)]).tell()?;
    kill(&holder);
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

fn killed_with_blocks_and_loans() -> Result<()> {
    let pool = pool(8);
    let holder = sharing("holds", &pool);
    holder.keep(vec![filled(&pool, 1), filled(&pool, 2)]).wait()?;
    holder.loan(3).wait()?;
    assert_eq!(pool.in_use(), 5);
    kill(&holder);
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

fn killed_while_it_emits() -> Result<()> {
    let pool = pool(8);
    for taken in 0..20 {
        let holder = sharing("emits", &pool);
        holder.emit_for_ever().tell()?;
        for _ in 0..taken {
            assert!(matches!(holder.next_event(SOON)?, Some(Event::Emitted(_))));
        }
        kill(&holder);
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}

fn killed_before_it_is_told() -> Result<()> {
    let pool = pool(4);
    let holder = holder("told");
    testkit::kill9(holder.pid());
    let block = filled(&pool, 1);
    let send = || holder.keep(vec![block.clone()]).tell();
    // Where the processors are busy it is not dead yet, and a block is at most 255 times on its way.
    let early = (0..200).find_map(|_| send().err());
    assert!(testkit::wait_until(SOON, || testkit::state_of(holder.pid()).is_none_or(|s| s == 'Z')));
    for sent in [early.map_or_else(send, Err), send()] {
        assert!(matches!(sent, Err(Error::PeerDied { .. })), "{sent:?}");
    }
    assert_eq!(pool.in_use(), 1);
    assert!(holder.keep(vec![filled(&pool, 2)]).tell().is_err());
    drop(block);
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

fn what_came_before_a_death_can_be_taken_after_it() -> Result<()> {
    let pool = pool(8);
    let holder = sharing("last", &pool);
    let reply = holder.fill(3, 2).send()?;
    holder.emit(4, 2).wait()?;
    holder.loan(1).wait()?;
    testkit::kill9(holder.pid());
    assert!(testkit::wait_until(SOON, || !holder.is_alive()));
    assert_eq!(pool.in_use(), 4);
    for _ in 0..2 {
        let Some(Event::Emitted(block)) = holder.next_event(SOON)? else { panic!("an event") };
        assert_eq!(block.as_bytes()[7], 4);
    }
    let blocks = reply.wait()?;
    assert_eq!(blocks[1].as_bytes()[7], 3);
    drop(blocks);
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

fn a_loan_that_waits_gets_what_the_dead_held() -> Result<()> {
    for in_flight in [false, true] {
        let pool = pool(2);
        let holder = sharing("exhausts", &pool);
        if in_flight {
            freeze(&holder);
            holder.keep(vec![filled(&pool, 1), filled(&pool, 2)]).tell()?;
        } else {
            holder.keep(vec![filled(&pool, 1)]).wait()?;
            holder.loan(1).wait()?;
        }
        assert!(pool.try_loan().is_err());
        let (pid, parent) = (holder.pid(), std::process::id());
        let killer = in_a_child(|| {
            // Once the other waits.
            testkit::wait_until(SOON, || testkit::state_of(parent) == Some('S'));
            testkit::kill9(pid);
        });
        // Nothing else of the frontend's runs meanwhile.
        let loan = pool.loan_timeout(SOON);
        assert!(loan.is_ok(), "{loan:?}");
        waitpid(killer, None).unwrap();
        drop(loan);
        kill(&holder);
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}

fn a_restart_carries_on_with_the_same_pool() -> Result<()> {
    let pool = pool(4);
    let mut holder = sharing("again", &pool);
    for _ in 0..3 {
        holder.keep(vec![filled(&pool, 1), filled(&pool, 2)]).wait()?;
        freeze(&holder);
        holder.keep(vec![filled(&pool, 3)]).tell()?;
        testkit::kill9(holder.pid());
        holder.restart()?;
        assert_eq!(pool.in_use(), 0);
        assert_eq!(holder.read(filled(&pool, 9)).wait()?.1, 9);
        comes_to(&pool, 0);
    }
    holder.stop()
}

/// Entries of participants and of carriers are used again: there are 16 of each.
fn many_deaths_use_up_nothing() -> Result<()> {
    let pool = pool(2);
    for with in 0..40 {
        let holder = sharing("one-of-many", &pool);
        assert_eq!(holder.read(filled(&pool, with)).wait()?.1, with);
        let block = &holder.fill(with, 1).wait()?[0];
        assert_eq!(block.as_bytes()[0], with);
        holder.loan(1).wait()?;
        kill(&holder);
    }
    comes_to(&pool, 0);
    Ok(())
}

/// Runs `child` in a process of its own.
fn in_a_child(child: impl FnOnce()) -> nix::unistd::Pid {
    #![allow(clippy::disallowed_methods)]
    // SAFETY: this test has one thread, and the child ends here.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            child();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    }
}

/// A frontend in a process of its own, which shares our pool with a backend: both hold blocks,
/// and some are on their way between them. Gives the two of them.
fn frontend_and_backend(pool: &BlockPool) -> (nix::unistd::Pid, Process) {
    let (mut reading, writing) = std::io::pipe().unwrap();
    let frontend = in_a_child(|| {
        let holder = sharing("shares", pool);
        let kept = filled(pool, 1);
        let loan = pool.try_loan().unwrap();
        holder.keep(vec![filled(pool, 2), kept.clone()]).wait().unwrap();
        holder.emit(3, 2).wait().unwrap();
        let reply = holder.fill(3, 1).send().unwrap();
        assert!(testkit::wait_until(SOON, || reply.is_ready()));
        (&writing).write_all(&holder.pid().to_ne_bytes()).unwrap();
        std::thread::sleep(SOON);
        drop((holder, kept, loan, reply));
    });
    let mut bytes = [0; 4];
    reading.read_exact(&mut bytes).unwrap();
    let backend = Process::observe(u32::from_ne_bytes(bytes)).unwrap();
    comes_to(pool, 6);
    (frontend, backend)
}

fn a_third_process_gets_back_what_a_frontend_held() {
    let pool = pool(8);
    let (frontend, backend) = frontend_and_backend(&pool);
    testkit::kill9(frontend.as_raw() as u32);
    waitpid(frontend, None).unwrap();
    // The backend gives back what its frontend held, when it leaves.
    assert!(testkit::wait_until(SOON, || !backend.alive()));
    assert_eq!(pool.in_use(), 0);
}

fn a_third_process_gets_back_what_both_held() {
    let pool = pool(6);
    let (frontend, backend) = frontend_and_backend(&pool);
    testkit::signal(backend.pid(), libc::SIGSTOP);
    testkit::kill9(frontend.as_raw() as u32);
    testkit::kill9(backend.pid());
    waitpid(frontend, None).unwrap();
    assert!(testkit::wait_until(SOON, || !backend.alive()));
    let loan = pool.loan_timeout(SOON);
    assert!(loan.is_ok(), "{loan:?}");
    drop(loan);
    assert_eq!(pool.in_use(), 0);
}

// Ring ends.

fn a_ring_end_in_the_socket_of_the_dead() -> Result<()> {
    let holder = holder("unheard");
    freeze(&holder);
    let (mut to, input) = Records::options().capacity(4096).anonymous()?.split()?;
    let reply = holder.hear(input).send()?;
    let pid = holder.pid();
    testkit::kill9(pid);
    // Nobody has looked at the process: the ring finds out by itself.
    let end = loop {
        match to.send_timeout([7; 100], SOON) {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(end.contains(&pid.to_string()), "{end}");
    assert!(reply.wait().is_err());

    let holder = self::holder("unsaid");
    freeze(&holder);
    let (output, mut from) = Records::options().anonymous()?.split()?;
    holder.call::<_, ()>("number", (output,)).tell()?;
    kill(&holder);
    let end = from.recv_timeout(SOON).err();
    assert!(matches!(end, Some(RecvError::PeerDied { .. })), "{end:?}");
    Ok(())
}

fn a_ring_end_in_a_message_that_nobody_reads() -> Result<()> {
    for start in KINDS {
        let mut holder = start("unknown")?;
        for command in ["nothing", "number"] {
            let (output, mut from) = Records::options().anonymous()?.split()?;
            let (mut to, input) = Records::options().capacity(4096).anonymous()?.split()?;
            assert!(holder.call::<_, ()>(command, (output, input)).wait().is_err());
            let end = from.recv_timeout(SOON).err();
            assert!(matches!(end, Some(RecvError::Closed)), "{end:?}");
            while to.send_timeout([7; 100], SOON).is_ok() {}
            assert!(to.is_closed());
        }
        holder.stop()?;
    }
    Ok(())
}

fn a_ring_end_in_a_result_that_nobody_takes() -> Result<()> {
    for start in KINDS {
        let mut holder = start("given")?;
        drop(holder.offer().send()?);
        assert!(holder.hear_the_end().wait()?);
        holder.stop()?;
    }
    Ok(())
}
