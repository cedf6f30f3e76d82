//! The ways to start: the same process comes out of each.

use std::{
    fs,
    io::Read,
    sync::{Arc, Mutex, OnceLock},
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::{Options, Resource, prelude::*};
use nix::sys::resource;
use serde::{Deserialize, Serialize};
use shmring::{
    array::SharedArray,
    ring::cells::{Cells, Consumer, Producer},
};
use testkit::{Process, Test, test};

use crate::common::{SOON, at_once};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        test!(programs_with_threads_may_spawn_and_use_a_server),
        test!(what_is_no_program_or_no_worker_is_told),
        test!(a_worker_that_nobody_starts_says_so),
        test!(captured_lines_stand_in_the_exit),
        test!(captured_lines_are_events_of_tracing),
        test!(a_thread_has_the_surroundings_of_its_program),
        test!(a_worker_in_another_language, ignore_if = python_is_missing),
        test!(a_worker_of_another_version_is_refused, ignore_if = python_is_missing),
    ];
    type Body = fn(Way) -> Result<()>;
    let of_all: [(&str, Body); 19] = [
        ("smoke", smoke),
        ("rings_arrays_and_descriptors_are_part_of_the_state", state_with_shared_memory),
        ("the_next_one_gets_the_same_rings", the_next_one_gets_the_same_rings),
        ("an_end_that_travels_twice_is_refused", an_end_that_travels_twice_is_refused),
        ("errors_of_the_start_reach_the_one_who_starts", errors_of_the_start),
        ("a_state_that_cannot_be_sent_is_told_at_once", states_that_cannot_be_sent),
        ("ctrl_c_reaches_those_who_heed_it", ctrl_c),
        ("the_exit_handlers_of_a_program_may_take_their_time", slow_exit_handlers),
        ("a_start_that_takes_too_long_is_ended", start_that_hangs),
        ("a_kill_is_seen_at_once", kill_is_seen),
        ("restarts_construct_anew", restarts),
        ("surroundings_are_as_wished", surroundings),
        ("surroundings_that_cannot_be_are_told", surroundings_that_cannot_be),
        ("streams_lead_where_they_should", streams),
        ("nothing_of_the_frontend_is_inherited", nothing_inherited),
        ("nothing_leaks_over_many_starts", nothing_leaks),
        ("without_descriptors_nothing_is_left", no_descriptors),
        ("a_killed_frontend_leaves_no_process", killed_frontend),
        ("it_can_be_a_frontend_itself", a_frontend_itself),
    ];
    for way in [Way::Fork, Way::Spawn, Way::Served, Way::Exec] {
        for (name, body) in of_all {
            let test = Test::new(format!("{way:?}::{name}").to_lowercase(), move || body(way));
            tests.push(test.timeout(Duration::from_secs(120)));
        }
    }
    tests
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Fork,
    Spawn,
    Served,
    Exec,
}

impl Way {
    fn start(self, mood: &str) -> Result<MessageProcess<Moody>> {
        self.start_with(MessageProcess::options("moody"), mood)
    }

    fn start_with(self, options: Options<Moody>, mood: &str) -> Result<MessageProcess<Moody>> {
        static SERVER: OnceLock<ForkServer> = OnceLock::new();
        let mood = mood.to_owned();
        match self {
            Way::Fork => options.fork(move |start: &Start| Moody::new(Mood::of(&mood), start)),
            Way::Spawn => options.spawn(Mood::of(&mood), Moody::new),
            Way::Served => {
                let server = SERVER.get_or_init(|| ForkServer::start().unwrap());
                options.fork_from(server, Mood::of(&mood), Moody::new)
            }
            Way::Exec => options.exec(Program::new("/proc/self/exe"), Mood::of(&mood)),
        }
    }
}

/// The state that a backend is made from.
#[derive(Serialize, Deserialize)]
pub(crate) struct Mood {
    mood: String,
    work: Option<Work>,
}

impl Mood {
    pub(crate) fn of(mood: &str) -> Mood {
        Mood { mood: mood.into(), work: None }
    }
}

#[derive(Serialize, Deserialize)]
struct Work {
    numbers: Consumer<u64>,
    answers: Producer<u64>,
    table: SharedArray<u64, ndarray::Ix1>,
    note: Descriptor,
}

/// Longer than a closed channel is taken for an end that is about to come.
const DOZE: Duration = Duration::from_millis(1300);

pub(crate) struct Moody {
    mood: Mood,
    restarts: u32,
}

#[backend(event = String, calls = pub(crate) MoodyCalls)]
impl Moody {
    fn pre_run(&mut self, _ctx: &mut Context<String>) -> Result<()> {
        match &self.mood.mood[..] {
            "fails" => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
            "hangs" => loop {
                sleep(SOON);
            },
            "exits" => std::process::exit(7),
            _ => Ok(()),
        }
    }

    fn c__mood(&self) -> (String, u32) {
        (self.mood.mood.clone(), self.restarts)
    }

    fn c__say(&mut self, text: String, ctx: &mut Context<String>) -> Result<()> {
        ctx.emit(text)
    }

    fn c__work(&mut self) -> Result<u64> {
        let Some(work) = &mut self.mood.work else { return Err("there is none".into()) };
        let number = *work.numbers.recv_timeout(SOON)?;
        let factor = work.table.read()?[1];
        work.answers.send(number * factor)?;
        let mut note = fs::File::from(std::os::fd::AsFd::as_fd(&work.note).try_clone_to_owned()?);
        let mut text = String::new();
        note.read_to_string(&mut text)?;
        Ok(text.len() as u64)
    }

    fn c__read(&self, path: String) -> Result<String> {
        Ok(fs::read_to_string(path)?)
    }

    fn c__variable(&self, name: String) -> Option<String> {
        std::env::var(name).ok()
    }

    fn c__directory(&self) -> String {
        std::env::current_dir().unwrap().display().to_string()
    }

    fn c__descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc/self/fd").unwrap();
        let link = |entry: std::io::Result<fs::DirEntry>| {
            Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string())
        };
        entries.filter_map(link).collect()
    }

    fn c__print(&self, out: String, err: String) {
        println!("{out}");
        eprintln!("{err}");
    }

    fn c__input(&self) -> String {
        let mut text = String::new();
        let _ = std::io::stdin().read_to_string(&mut text);
        text
    }

    fn c__end(&self, code: i32) {
        std::process::exit(code);
    }

    fn c__sleep(&self) {
        sleep(Duration::from_secs(1000));
    }

    /// Has its program end so much later than its life.
    fn c__doze_at_exit(&self) {
        extern "C" fn doze() {
            sleep(DOZE);
        }
        // SAFETY: the function lives as long as the program.
        unsafe { libc::atexit(doze) };
    }

    fn c__spin(&self) {
        loop {
            std::hint::spin_loop();
        }
    }

    fn c__loaded(&self) -> (u32, u32) {
        (LOADED.get().copied().unwrap_or_default(), std::process::id())
    }

    fn c__delegate(&self) -> Result<(String, u32)> {
        let mut below = Way::Fork.start("below")?;
        let answer = below.mood().wait()?;
        below.stop()?;
        Ok(answer)
    }
}

impl Moody {
    pub(crate) fn new(mood: Mood, start: &Start) -> Result<Moody> {
        match &mood.mood[..] {
            "fails early" => Err("no camera".into()),
            "panics early" => panic!("in the constructor"),
            _ => Ok(Moody { mood, restarts: start.restarts }),
        }
    }
}

fn smoke(way: Way) -> Result<()> {
    let mut process = way.start("good")?;
    assert_eq!(process.mood().wait()?, ("good".into(), 0));
    process.say("hello".into()).tell()?;
    assert!(matches!(process.next_event(SOON)?, Some(Event::Emitted(text)) if text == "hello"));
    assert_eq!(testkit::name_of(process.pid()).unwrap(), "moody");
    assert!(process.is_alive());
    let error = process.read("/nowhere".into()).wait().unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    process.stop()?;
    let exit = process.exit().unwrap();
    assert_eq!(exit.how, How::Code(0));
    assert!(!testkit::alive(exit.pid));
    Ok(())
}

fn state_with_shared_memory(way: Way) -> Result<()> {
    let (mut numbers, theirs) = Cells::<u64>::options().capacity(8).anonymous()?.split()?;
    let (answers, mut ours) = Cells::<u64>::options().capacity(8).anonymous()?.split()?;
    let table = SharedArray::create_from(&testkit::name("table"), &ndarray::arr1(&[1u64, 7]))?;
    let (reading, writing) = std::io::pipe()?;
    std::io::Write::write_all(&mut &writing, b"four")?;
    drop(writing);
    let note = Descriptor::from(std::os::fd::OwnedFd::from(reading));
    let work = Work { numbers: theirs, answers, table: table.try_clone()?, note };
    let mood = Mood { mood: "busy".into(), work: Some(work) };
    let mut process: MessageProcess<Moody> = match way {
        Way::Fork => {
            let mut mood = Some(mood);
            MessageProcess::fork("busy", move |start: &Start| {
                Moody::new(mood.take().unwrap(), start)
            })?
        }
        Way::Spawn => MessageProcess::spawn("busy", mood, Moody::new)?,
        Way::Served => MessageProcess::fork_from(&ForkServer::start()?, "busy", mood, Moody::new)?,
        Way::Exec => MessageProcess::exec("busy", Program::new("/proc/self/exe"), mood)?,
    };
    let reply = process.work().send()?;
    numbers.send(6)?;
    assert_eq!(*ours.recv_timeout(SOON)?, 42);
    assert_eq!(reply.wait()?, 4);
    process.stop()
}

/// Rings of the test, with ends for a backend, made anew at each start or once for all.
struct Desk {
    numbers: Cells<u64>,
    answers: Cells<u64>,
    table: SharedArray<u64, ndarray::Ix1>,
}

impl Desk {
    fn new() -> Result<Desk> {
        Ok(Desk {
            numbers: Cells::options().capacity(8).anonymous()?,
            answers: Cells::options().capacity(8).anonymous()?,
            table: SharedArray::anonymous_from(&ndarray::arr1(&[0, 7]))?,
        })
    }

    fn mood(&self) -> Mood {
        let work = Work {
            numbers: self.numbers.consumer().unwrap(),
            answers: self.answers.producer().unwrap(),
            table: self.table.try_clone().unwrap(),
            note: Descriptor::from(std::os::fd::OwnedFd::from(
                fs::File::open("/dev/null").unwrap(),
            )),
        };
        Mood { mood: "busy".into(), work: Some(work) }
    }
}

fn the_next_one_gets_the_same_rings(way: Way) -> Result<()> {
    let desk = Desk::new()?;
    let (mut numbers, mut answers) = (desk.numbers.producer()?, desk.answers.consumer()?);
    let options: Options<Moody> = MessageProcess::options("busy");
    let mut process = match way {
        Way::Fork => {
            let mut mood = Some(desk.mood());
            options.fork(move |start: &Start| Moody::new(mood.take().unwrap(), start))?
        }
        Way::Spawn => options.spawn_with(move |_| desk.mood(), Moody::new)?,
        Way::Served => {
            options.fork_from_with(&ForkServer::start()?, move |_| desk.mood(), Moody::new)?
        }
        Way::Exec => options.exec_with(Program::new("/proc/self/exe"), move |_| desk.mood())?,
    };
    for number in 1..4 {
        // One is done, and one is left for the next.
        numbers.send(number)?;
        numbers.send(10 * number)?;
        process.work().wait()?;
        testkit::kill9(process.pid());
        assert!(testkit::wait_until(SOON, || process.exit().is_some()));
        process.restart()?;
        process.work().wait()?;
        assert_eq!(*answers.recv_timeout(SOON)?, 7 * number);
        assert_eq!(*answers.recv_timeout(SOON)?, 70 * number);
    }
    process.stop()
}

/// An end that has gone with the first cannot go with the next: that is told, and soon.
fn an_end_that_travels_twice_is_refused(way: Way) -> Result<()> {
    let mood = Desk::new()?.mood();
    let options: Options<Moody> = MessageProcess::options("busy");
    let mut process = match way {
        // The constructor has what it captured at each start.
        Way::Fork => return Ok(()),
        Way::Spawn => options.spawn(mood, Moody::new)?,
        Way::Served => options.fork_from(&ForkServer::start()?, mood, Moody::new)?,
        Way::Exec => options.exec(Program::new("/proc/self/exe"), mood)?,
    };
    testkit::kill9(process.pid());
    let error = at_once(|| process.restart().unwrap_err()).to_string();
    assert!(error.contains("the consumer") && error.contains("travels once"), "{error}");
    Ok(())
}

fn errors_of_the_start(way: Way) -> Result<()> {
    for (mood, stage, text) in [
        ("fails early", "the constructor", "no camera"),
        ("panics early", "the constructor", "in the constructor"),
        ("fails", "pre_run", "entity not found"),
    ] {
        let error = way.start(mood).unwrap_err();
        let Error::PreRun { stage: at, message, .. } = &error else { panic!("{error:?}") };
        assert_eq!((&at[..], &message[..]), (stage, text));
    }
    let error = at_once(|| way.start("exits").unwrap_err());
    assert_eq!(error.exit().unwrap().how, How::Code(7), "{error:?}");
    Ok(())
}

fn states_that_cannot_be_sent(way: Way) -> Result<()> {
    if way == Way::Fork {
        return Ok(()); // It has what its constructor captured.
    }
    way.start("good")?; // the server, where there is one
    let begin = |make: fn() -> Vec<Descriptor>| {
        let options = MessageProcess::<Moody>::options("moody");
        let construct = |_: Vec<Descriptor>, start: &Start| Moody::new(Mood::of("good"), start);
        match way {
            Way::Spawn => options.spawn_with(move |_| make(), construct),
            Way::Exec => options.exec_with(Program::new("/proc/self/exe"), move |_| make()),
            _ => {
                let server = ForkServer::start()?;
                options.fork_from_with(&server, move |_| make(), construct)
            }
        }
    };
    let error = at_once(|| begin(|| (0..254).map(|_| nowhere()).collect()).unwrap_err());
    assert!(matches!(error, Error::TooManyDescriptors { count: 254, .. }), "{error}");
    let before = testkit::children_of(std::process::id());
    std::panic::catch_unwind(|| begin(|| panic!("in the state"))).unwrap_err();
    assert_eq!(testkit::children_of(std::process::id()), before);
    Ok(())
}

fn nowhere() -> Descriptor {
    std::os::fd::OwnedFd::from(fs::File::open("/dev/null").unwrap()).into()
}

fn ctrl_c(way: Way) -> Result<()> {
    let heeds = way.start_with(MessageProcess::options("moody").ignore_sigint(false), "good")?;
    assert!(testkit::signal(heeds.pid(), libc::SIGINT));
    assert!(testkit::wait_until(SOON, || !heeds.is_alive()));
    assert_eq!(heeds.exit().unwrap().how.signal_name(), Some("SIGINT"));
    for _ in 0..20 {
        let options = MessageProcess::options("moody");
        // As early as it can come.
        let ignores = options.begin(|options| way.start_with(options, "good"))?;
        assert!(testkit::signal(ignores.pid(), libc::SIGINT));
        let mut ignores = ignores.wait()?;
        assert!(testkit::signal(ignores.pid(), libc::SIGINT));
        assert_eq!(ignores.mood().wait()?.0, "good");
        ignores.stop()?;
    }
    Ok(())
}

fn slow_exit_handlers(way: Way) -> Result<()> {
    let processes = [way.start("good")?, way.start("good")?];
    for process in &processes {
        process.doze_at_exit().wait()?;
    }
    let [mut stopped, mut other] = processes;
    let since = Instant::now();
    stopped.stop()?;
    assert_eq!(stopped.exit().unwrap().how, How::Code(0));
    // A fork runs no exit handlers of its program.
    assert!(since.elapsed() >= DOZE || way == Way::Fork || way == Way::Served);
    // One that leaves is seen to end, whatever was asked meanwhile.
    other.request_stop()?;
    loop {
        match other.next_event(SOON) {
            Ok(Some(Event::Ended(exit))) => break assert_eq!(exit.how, How::Code(0)),
            Ok(None) => panic!("it does not end"),
            Ok(Some(_)) => {}
            Err(error) => {
                assert!(matches!(error, Error::Disconnected { .. }), "{error}");
                sleep(Duration::from_millis(10));
            }
        }
    }
    other.restart()?;
    assert_eq!(other.mood().wait()?, ("good".into(), 1));
    other.stop()
}

fn start_that_hangs(way: Way) -> Result<()> {
    way.start("good")?; // the server, where there is one
    let options = MessageProcess::options("moody").start_timeout(Duration::from_millis(500));
    let error = at_once(|| way.start_with(options, "hangs").unwrap_err());
    let Error::TimedOut { action, busy, .. } = &error else { panic!("{error:?}") };
    assert_eq!(action, "become ready");
    assert_eq!(busy.as_ref().unwrap().with, "pre_run");
    Ok(())
}

fn kill_is_seen(way: Way) -> Result<()> {
    let process = way.start("good")?;
    let reply = process.sleep().send()?;
    testkit::kill9(process.pid());
    let error = at_once(|| reply.wait().unwrap_err());
    assert_eq!(error.exit().unwrap().how.signal_name(), Some("SIGKILL"), "{error}");
    assert!(matches!(process.next_event(SOON)?, Some(Event::Ended(_))));
    Ok(())
}

fn restarts(way: Way) -> Result<()> {
    let mut process = way.start("again")?;
    for count in 1..4 {
        let before = process.pid();
        testkit::kill9(before);
        process.restart()?;
        assert_ne!(process.pid(), before);
        assert_eq!(process.mood().wait()?, ("again".into(), count));
    }
    process.stop()
}

fn surroundings(way: Way) -> Result<()> {
    for nice in [-21, 20, 1000] {
        let error =
            way.start_with(MessageProcess::options("moody").nice(nice), "good").unwrap_err();
        assert!(error.to_string().contains("-20 to 19"), "{error}");
    }
    let (soft, _) = limits_of("Max open files", std::process::id());
    let options = MessageProcess::options("moody")
        .env("MOOD", "blue")
        .env_remove("PATH")
        .current_dir("/proc")
        .nice(3)
        .cpus([0])
        .rlimits(Resource::OpenFiles, 64, 100)
        .rlimit(Resource::CoreFile, 0)
        .oom_score(500);
    let mut process = way.start_with(options, "good")?;
    assert_eq!(process.variable("MOOD".into()).wait()?.as_deref(), Some("blue"));
    assert_eq!(process.variable("PATH".into()).wait()?, None);
    assert_eq!(process.directory().wait()?, "/proc");
    assert_eq!(limits_of("Max open files", process.pid()), (64, 100));
    assert_eq!(limits_of("Max core file size", process.pid()), (0, 0));
    let status = process.read("/proc/self/status".into()).wait()?;
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    assert_eq!(process.read("/proc/self/oom_score_adj".into()).wait()?, "500\n");
    let stat = process.read("/proc/self/stat".into()).wait()?;
    let nice = stat.rsplit(')').next().unwrap().split(' ').nth(17).unwrap();
    assert_eq!(nice, "3");
    assert_eq!(limits_of("Max open files", std::process::id()).0, soft, "ours are ours");
    assert!(std::env::var_os("PATH").is_some());
    process.stop()
}

fn limits_of(name: &str, pid: u32) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
    let mut numbers = line[name.len()..].split_whitespace().map(|word| word.parse());
    (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap())
}

fn surroundings_that_cannot_be(way: Way) -> Result<()> {
    let nowhere = MessageProcess::options("moody").current_dir("/nowhere/at/all");
    let error = way.start_with(nowhere, "good").unwrap_err().to_string();
    assert!(error.contains("to the directory /nowhere/at/all: No such file"), "{error}");
    let zero = MessageProcess::options("moody").env("MOOD", "bl\0ue");
    let error = way.start_with(zero, "good").unwrap_err().to_string();
    assert!(error.contains("the value of variable \"MOOD\" has a zero byte in it"), "{error}");
    let limits = MessageProcess::options("moody").rlimits(Resource::OpenFiles, 2, 1);
    let error = way.start_with(limits, "good").unwrap_err().to_string();
    assert!(error.contains("OpenFiles to 2 of 1"), "{error}");
    let cpus = MessageProcess::options("moody").cpus([1000]);
    let error = way.start_with(cpus, "good").unwrap_err().to_string();
    assert!(error.contains("1000"), "{error}");
    Ok(())
}

fn streams(way: Way) -> Result<()> {
    let (reading, writing) = std::io::pipe()?;
    let options = MessageProcess::options("moody")
        .stdin(Stdio::null())
        .stdout(std::os::fd::OwnedFd::from(writing))
        .stderr(Stdio::capture(2));
    let mut process = way.start_with(options, "good")?;
    assert_eq!(process.input().wait()?, "");
    for number in 0..5 {
        process.print(format!("out {number}"), format!("err {number}")).wait()?;
    }
    process.stop()?;
    let exit = process.exit().unwrap();
    assert_eq!(exit.stderr, ["err 3", "err 4"]);
    assert!(exit.stdout.is_empty());
    drop(process); // the writing end goes with its options
    let mut text = String::new();
    (&reading).read_to_string(&mut text)?;
    assert_eq!(text, "out 0\nout 1\nout 2\nout 3\nout 4\n");
    Ok(())
}

fn captured_lines_stand_in_the_exit() -> Result<()> {
    for way in [Way::Fork, Way::Spawn, Way::Served, Way::Exec] {
        let options =
            MessageProcess::options("moody").stdout(Stdio::capture(1)).stderr(Stdio::capture(1));
        let process = way.start_with(options, "good")?;
        process.print("one\ntwo".into(), "three\nfour".into()).wait()?;
        testkit::kill9(process.pid());
        let Some(Event::Ended(exit)) = process.next_event(SOON)? else { panic!("no end") };
        assert_eq!(
            (&exit.stdout[..], &exit.stderr[..]),
            (&["two".into()][..], &["four".into()][..])
        );
    }
    Ok(())
}

/// Keeps the events of msgproc's streams: target, process, line.
struct Log(Arc<Mutex<Vec<[String; 3]>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("msgproc::std")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields<'a>(&'a mut [String; 3]);
        impl tracing::field::Visit for Fields<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let place = if field.name() == "message" { 2 } else { 1 };
                self.0[place] = format!("{value:?}");
            }
        }
        let mut entry = [event.metadata().target().to_owned(), String::new(), String::new()];
        event.record(&mut Fields(&mut entry));
        self.0.lock().unwrap().push(entry);
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

fn captured_lines_are_events_of_tracing() -> Result<()> {
    let log = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(Log(log.clone())).map_err(Error::other)?;
    let options = MessageProcess::options("talks").stdout(Stdio::capture(1)).capture_stderr(1);
    let mut process = Way::Spawn.start_with(options, "good")?;
    process.print("first".into(), "bad".into()).wait()?;
    process.print("second".into(), "worse".into()).wait()?;
    process.stop()?;
    let mut log = log.lock().unwrap().clone();
    log.sort_by_key(|[target, ..]| target.clone());
    let lines: Vec<_> = log.iter().map(|entry| entry.each_ref().map(|text| &text[..])).collect();
    let (out, err) = ("msgproc::stdout", "msgproc::stderr");
    let name = "\"talks\"";
    assert_eq!(
        lines,
        [[err, name, "bad"], [err, name, "worse"], [out, name, "first"], [out, name, "second"]]
    );
    Ok(())
}

/// Only the standard streams, the channel and the lifeline are there.
fn nothing_inherited(way: Way) -> Result<()> {
    if way == Way::Fork {
        return Ok(()); // a fork is a copy: its user's descriptors are part of it
    }
    // One that is not close-on-exec.
    let leaky = fs::File::open("/proc/version")?;
    let leaky = nix::unistd::dup(&leaky).unwrap();
    let other = way.start("other")?;
    let process = way.start("good")?;
    let found = process.descriptors().wait()?;
    assert!(!found.iter().any(|path| path == "/proc/version"), "{found:?}");
    assert!(found.iter().filter(|path| path.starts_with("socket:")).count() <= 1, "{found:?}");
    assert!(found.len() <= 9, "{found:?}");
    drop((leaky, other));
    Ok(())
}

fn nothing_leaks(way: Way) -> Result<()> {
    way.start("good")?;
    let server = testkit::children_of(std::process::id()).into_iter().next();
    // One process that it has forked ahead.
    let is_idle = |server: u32| testkit::children_of(server).len() == 1;
    assert!(server.is_none_or(|server| testkit::wait_until(SOON, || is_idle(server))));
    let in_server = server.map(testkit::fd_count_of);
    let before = testkit::fd_count();
    for _ in 0..1000 {
        way.start("good")?.stop()?;
    }
    let after = testkit::fd_count();
    let Some((server, in_server)) = server.zip(in_server) else {
        assert_eq!(after, before);
        return Ok(());
    };
    // The pidfd of the one ahead may have been received, or not yet.
    assert!(after.abs_diff(before) <= 1, "{before} before, {after} after");
    let same = || is_idle(server) && testkit::fd_count_of(server) == in_server;
    assert!(testkit::wait_until(SOON, same), "the server keeps descriptors");
    Ok(())
}

/// Wherever in a start the last descriptor is taken, it is an error, and nothing of it stays.
fn no_descriptors(way: Way) -> Result<()> {
    let (_, hard) = resource::getrlimit(resource::Resource::RLIMIT_NOFILE).unwrap();
    // The server's own limit is another; it is started before.
    drop(way.start("good")?);
    let children = || testkit::children_of(std::process::id()).len();
    let (fds, processes) = (testkit::fd_count(), children());
    let first = testkit::first_free_fd().unwrap() as u64;
    let mut refused = 0;
    for free in 0..40 {
        resource::setrlimit(resource::Resource::RLIMIT_NOFILE, first + free, hard).unwrap();
        let started = way.start("good");
        resource::setrlimit(resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        refused += u64::from(started.is_err());
        if let Ok(mut process) = started {
            process.stop()?;
        }
        let told = || format!("{} processes, with {free} left", children());
        assert!(testkit::wait_until(SOON, || children() == processes), "{}", told());
    }
    assert!((1..40).contains(&refused), "{refused} were refused");
    assert!(testkit::fd_count().abs_diff(fds) <= 1, "{fds} before, {}", testkit::fd_count());
    way.start("good")?.stop()?;
    Ok(())
}

/// In a state of its own, a backend is gone a second after its frontend.
fn killed_frontend(way: Way) -> Result<()> {
    for doing in ["waits", "sleeps", "spins"] {
        let (reading, writing) = std::io::pipe()?;
        let frontend = testkit::forked(move || {
            let process = way.start("good").unwrap();
            match doing {
                "sleeps" => process.sleep().tell().unwrap(),
                "spins" => process.spin().tell().unwrap(),
                _ => {}
            }
            sleep(Duration::from_millis(20));
            let pid = process.pid().to_ne_bytes();
            std::io::Write::write_all(&mut &writing, &pid).unwrap();
            sleep(SOON);
        });
        let mut pid = [0; 4];
        (&reading).read_exact(&mut pid)?;
        let below: Vec<Process> = testkit::descendants_of(frontend.as_raw() as u32)
            .into_iter()
            .filter_map(Process::observe)
            .collect();
        assert!(below.iter().any(|process| process.pid() == u32::from_ne_bytes(pid)));
        let since = Instant::now();
        testkit::kill9(frontend.as_raw() as u32);
        let gone = || below.iter().all(|process| !process.alive());
        assert!(testkit::wait_until(SOON, gone), "{doing}: one lives on");
        assert!(since.elapsed() < Duration::from_millis(1300), "{doing}: {:?}", since.elapsed());
    }
    Ok(())
}

fn a_frontend_itself(way: Way) -> Result<()> {
    let mut process = way.start("above")?;
    assert_eq!(process.delegate().wait()?, ("below".into(), 0));
    process.stop()
}

pub(crate) static LOADED: OnceLock<u32> = OnceLock::new();

fn programs_with_threads_may_spawn_and_use_a_server() -> Result<()> {
    let (keep, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || wait.recv());
    assert!(matches!(Way::Fork.start("good"), Err(Error::MultiThreaded { .. })));
    std::thread::scope(|scope| {
        for way in [Way::Spawn, Way::Served, Way::Exec, Way::Served] {
            scope.spawn(move || {
                for _ in 0..5 {
                    let mut process = way.start("good").unwrap();
                    assert_eq!(process.mood().wait().unwrap().0, "good");
                    process.stop().unwrap();
                }
            });
        }
    });
    drop(keep);
    let _ = other.join();
    Ok(())
}

fn what_is_no_program_or_no_worker_is_told() {
    let start = |program: &str| -> Error {
        let options = MessageProcess::<Moody>::options("moody").start_timeout(SOON);
        options.exec(Program::new(program), Mood::of("good")).unwrap_err()
    };
    let error = start("/nowhere/to/be/found");
    assert!(error.to_string().contains("/nowhere/to/be/found: No such file"), "{error}");
    let error = start("/etc/passwd");
    assert!(error.to_string().contains("Permission denied"), "{error}");
    let error = start("true");
    assert_eq!(error.exit().unwrap().how, How::Code(0), "{error}");
    let error = start("false");
    assert_eq!(error.exit().unwrap().how, How::Code(1), "{error}");
}

#[allow(clippy::disallowed_methods)] // As somebody would by hand.
fn a_worker_that_nobody_starts_says_so() {
    for (argument, text) in [
        ("--msgproc-spawned=3", "no control channel"),
        ("--msgproc-control=3", "no control channel"),
    ] {
        let output = std::process::Command::new("/proc/self/exe").arg(argument).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(text), "{said}");
    }
}

fn a_thread_has_the_surroundings_of_its_program() {
    let options = MessageProcess::options("moody").nice(1);
    let error = options.thread(|start: &Start| Moody::new(Mood::of("x"), start)).unwrap_err();
    assert!(error.to_string().contains("surroundings of its program"), "{error}");
}

/// A worker in Python: its commands have the types that its frontend says.
struct Foreign;

#[backend(event = String)]
impl Foreign {
    fn c__add(&mut self, _number: u64) -> u64 {
        unreachable!("it runs in the other program")
    }

    fn c__squares(&mut self, _numbers: Vec<f64>) -> Vec<f64> {
        unreachable!("it runs in the other program")
    }

    fn c__who(&self) -> (String, u32) {
        unreachable!("it runs in the other program")
    }

    fn c__missing(&self) {
        unreachable!("it runs in the other program")
    }
}

fn python() -> String {
    std::env::var("SHMRING_TEST_PYTHON").unwrap_or_else(|_| "python3".into())
}

#[allow(clippy::disallowed_methods)] // Looks whether there is a python.
fn python_is_missing() -> Option<String> {
    let python = python();
    let found = std::process::Command::new(&python).arg("--version").output();
    found.err().map(|error| format!("{python} cannot be started: {error}"))
}

fn a_worker_of_another_version_is_refused() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/worker.py");
    let program = Program::new(python()).arg(script).arg("--of-another-version");
    let error = MessageProcess::<Foreign>::exec("snake", program, 100u64).unwrap_err();
    assert!(error.to_string().contains("speaks version 2, this program version 1"), "{error}");
    assert!(testkit::children_of(std::process::id()).is_empty());
}

fn a_worker_in_another_language() -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/worker.py");
    let program = Program::new(python()).arg(script).arg("an argument of its own");
    let mut process: MessageProcess<Foreign> = MessageProcess::exec("snake", program, 100u64)?;
    assert_eq!(process.add(7).wait()?, 107);
    assert!(matches!(process.next_event(SOON)?, Some(Event::Emitted(text)) if text == "now 107"));
    assert_eq!(process.squares(vec![1.5, -2.0]).wait()?, [2.25, 4.0]);
    let many: Vec<f64> = (0..100_000).map(f64::from).collect();
    assert_eq!(process.squares(many).wait()?[99_999], 99_999.0 * 99_999.0);
    let error = process.missing().wait().unwrap_err();
    assert!(matches!(error, Error::UnknownCommand { .. }), "{error}");
    let error = process.call::<_, u64>("add", (1u64, 2u64)).wait().unwrap_err();
    assert!(matches!(error, Error::BadArguments { .. }), "{error}");
    assert_eq!(process.who().wait()?, ("snake".into(), 0));
    assert!(process.round_trip(SOON)? < SOON);
    let before = process.add(0).urgent().wait()?;
    let late = process.add(1).deadline(Duration::ZERO);
    assert!(late.wait().is_err());
    // What it counts on its page makes room for more than may be on their way at once.
    for _ in 0..20_000 {
        process.who().tell()?;
    }
    assert_eq!(process.add(0).wait()?, before, "what was late did not run");
    testkit::kill9(process.pid());
    process.restart()?;
    process.stop()
}
