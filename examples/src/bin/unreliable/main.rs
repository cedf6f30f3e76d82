//! A server that keeps its word although its C library crashes.

mod cli;
mod crew;
mod worker;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{cli::Args, crew::Crew};

/// A line that is longer is not read: nobody may fill the memory of the server.
const LONGEST_LINE: usize = 1 << 20;

fn main() -> ExitCode {
    msgproc::init();
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("unreliable: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has had enough.
        Err(_) if SAID_ENOUGH.load(Relaxed) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "unreliable: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nobody reads standard output any more.
static SAID_ENOUGH: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output.
fn say(line: fmt::Arguments<'_>) -> msgproc::Result<()> {
    writeln!(io::stdout(), "{line}").map_err(|error| {
        SAID_ENOUGH.store(error.kind() == io::ErrorKind::BrokenPipe, Relaxed);
        format!("cannot write standard output: {error}").into()
    })
}

async fn run(args: Args) -> msgproc::Result<()> {
    let limit = Duration::from_millis(args.limit);
    let crew = Arc::new(Crew::start(args.workers, limit).await?);
    let address = args.listen.unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    if args.serve {
        say(format_args!("listening on {}, {} workers", listener.local_addr()?, args.workers))?;
        serve(listener, &crew).await?;
    } else {
        demonstrate(listener, &crew).await?;
    }
    report(&crew)?;
    let Ok(crew) = Arc::try_unwrap(crew) else {
        return Err("a request is still running".into());
    };
    crew.stop(args.workers).await;
    Ok(())
}

fn report(crew: &Crew) -> msgproc::Result<()> {
    let counts = &crew.counts;
    say(format_args!("answered   {}", counts.answered.load(Relaxed)))?;
    say(format_args!("crashed    {}", counts.crashed.load(Relaxed)))?;
    say(format_args!("too long   {}", counts.too_long.load(Relaxed)))?;
    say(format_args!("replaced   {} workers", counts.replaced.load(Relaxed)))
}

/// Serves until SIGINT or SIGTERM, and then ends what has begun.
async fn serve(listener: TcpListener, crew: &Arc<Crew>) -> msgproc::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let crew = crew.clone();
                connections.spawn(async move { connection(stream, &crew).await });
            }
            Some(_) = connections.join_next() => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    let _ = writeln!(io::stderr(), "leaving");
    connections.abort_all();
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// A line is a request, and gets a line.
async fn connection(mut stream: TcpStream, crew: &Crew) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = tokio::io::AsyncReadExt::take(&mut reading, LONGEST_LINE as u64);
        if limited.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if line.len() == LONGEST_LINE {
            return writing.write_all(b"error: the line is too long\n").await;
        }
        let expression = String::from_utf8_lossy(&line).trim().to_owned();
        let answer = crew.evaluate(expression).await.to_string().replace('\n', " | ");
        writing.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

/// A client of our own, with good and bad requests.
async fn demonstrate(listener: TcpListener, crew: &Arc<Crew>) -> msgproc::Result<()> {
    let address = listener.local_addr()?;
    let for_server = crew.clone();
    let server = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        for _ in 0..2 {
            let (stream, _) = listener.accept().await?;
            let crew = for_server.clone();
            connections.spawn(async move { connection(stream, &crew).await });
        }
        while let Some(done) = connections.join_next().await {
            done.map_err(io::Error::other)??;
        }
        io::Result::Ok(())
    });

    // While one client breaks workers, another has its answers as ever.
    let steady = tokio::spawn(async move {
        let mut client = Client::connect(address).await?;
        let mut slowest = Duration::ZERO;
        for number in 0..2000 {
            let began = Instant::now();
            let answer = client.ask(&format!("{number} * 2 + 1")).await?;
            if answer != (2 * number + 1).to_string() {
                return Err(io::Error::other(format!("{number} * 2 + 1 gave {answer}")));
            }
            slowest = slowest.max(began.elapsed());
        }
        Ok(slowest)
    });

    let mut client = Client::connect(address).await?;
    let deep = format!("{}1{}", "(".repeat(400_000), ")".repeat(400_000));
    for (shown, request) in [
        ("1 + 2 * 3", "1 + 2 * 3"),
        ("2 ^ 10", "2 ^ 10"),
        ("(1 + 2", "(1 + 2"),
        ("((((... 400000 deep", &deep),
        ("1 / 0", "1 / 0"),
        ("2 ^ -1", "2 ^ -1"),
        ("1000000!", "1000000!"),
        ("20! / 18!", "20! / 18!"),
    ] {
        let answer = client.ask(request).await?;
        say(format_args!("{shown:<22} {answer}"))?;
    }
    drop(client);
    let slowest = steady.await.map_err(msgproc::Error::other)??;
    server.await.map_err(msgproc::Error::other)??;
    say(format_args!("meanwhile, 2000 good requests of another client: all answered"))?;
    let _ = writeln!(io::stderr(), "the slowest of them took {slowest:.1?}");
    Ok(())
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: std::net::SocketAddr) -> io::Result<Client> {
        Ok(Client(BufReader::new(TcpStream::connect(address).await?)))
    }

    async fn ask(&mut self, request: &str) -> io::Result<String> {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).await?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).await?;
        Ok(answer.trim_end().to_owned())
    }
}
