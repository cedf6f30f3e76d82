//! What single steps cost within one thread: both ends of a ring in one cache, nobody asleep, and
//! nothing travels. So these figures are what the code itself takes; what a hand-over between two
//! processes takes is measured by `scripts/bench`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use msgproc::flow::{
    Graph, Same, each,
    file::{ClassInfo, GraphFile, Registry},
    map, source,
};
use shmring::{
    Segment, Selector,
    array::SharedArray1,
    block::{Block, BlockPool},
    ring::{
        broadcast::Broadcast, cells::Cells, latest::Latest, port, queue::Queue, records::Records,
    },
};

const CAPACITY: usize = 1 << 16;

/// How many items are in a batch.
const BATCH: usize = 64;

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("records");
    for len in [8, 64, 1024] {
        let ring = Records::options().capacity(CAPACITY).anonymous().unwrap();
        let (mut tx, mut rx) = ring.split().unwrap();
        let sent = vec![7; len];
        group.bench_function(BenchmarkId::new("send and receive", len), |bencher| {
            bencher.iter(|| {
                tx.try_send(&sent[..]).unwrap();
                black_box(rx.try_recv().unwrap()[0])
            });
        });
    }
    let (mut tx, mut rx) =
        Records::options().capacity(CAPACITY).anonymous().unwrap().split().unwrap();
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("batch of 64 times 64 B", |bencher| {
        bencher.iter(|| {
            let mut batch = tx.batch();
            for _ in 0..BATCH {
                batch.try_push([7; 64]).unwrap();
            }
            batch.publish();
            for _ in 0..BATCH {
                black_box(rx.try_recv().unwrap()[0]);
            }
        });
    });
    group.finish();
}

fn cells(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cells");
    let ring = Cells::<[u64; 8]>::options().capacity(1024).anonymous().unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    group.bench_function("send and receive 64 B", |bencher| {
        bencher.iter(|| {
            tx.try_send([7; 8]).unwrap();
            black_box(rx.try_recv().unwrap()[0])
        });
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("a run of 64 times 64 B", |bencher| {
        bencher.iter(|| {
            let mut claim = tx.claim_many(BATCH).unwrap();
            claim.fill([7; 8]);
            claim.commit();
            black_box(rx.run().unwrap().iter().map(|item| item[0]).sum::<u64>())
        });
    });
    group.finish();
}

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    for consumers in [1, 8] {
        let ring = Broadcast::options().capacity(CAPACITY).anonymous().unwrap();
        let mut tx = ring.producer().unwrap();
        let mut all: Vec<_> = (0..consumers).map(|_| ring.consumer().unwrap()).collect();
        group.bench_function(BenchmarkId::new("send 64 B and receive", consumers), |bencher| {
            bencher.iter(|| {
                tx.try_send([7; 64]).unwrap();
                for rx in &mut all {
                    black_box(rx.try_recv().unwrap()[0]);
                }
            });
        });
    }
    group.finish();
}

fn queue(criterion: &mut Criterion) {
    let queue = Queue::options().capacity(1024).item_len(64).anonymous().unwrap();
    let (mut tx, mut rx) = queue.split().unwrap();
    criterion.bench_function("queue/send 64 B, receive, ack", |bencher| {
        bencher.iter(|| {
            tx.try_send([7; 64]).unwrap();
            let item = rx.try_recv().unwrap();
            black_box(item[0]);
            item.ack().unwrap();
        });
    });
}

fn latest(criterion: &mut Criterion) {
    let board = Latest::<[u64; 8]>::options().anonymous().unwrap();
    let (mut writer, mut reader) = (board.writer().unwrap(), board.reader());
    criterion.bench_function("latest/set and get 64 B", |bencher| {
        bencher.iter(|| {
            writer.set(&[7; 8]).unwrap();
            black_box(reader.get().unwrap()[0])
        });
    });
}

fn blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("block");
    let pool = BlockPool::options().blocks(8).block_len(4096).anonymous().unwrap();
    group.bench_function("loan and let go", |bencher| {
        bencher.iter(|| drop(black_box(pool.try_loan().unwrap())));
    });
    group.bench_function("loan, freeze, clone, let go of both", |bencher| {
        bencher.iter(|| {
            let block = pool.try_loan().unwrap().freeze();
            black_box((block.clone(), block));
        });
    });
    let ring = Records::options().capacity(CAPACITY).create_in(pool.segment()).unwrap();
    let (mut tx, mut rx) = port::ends::<(u64, Block)>(&ring).unwrap();
    group.bench_function("loan, send in a message, receive, let go", |bencher| {
        bencher.iter(|| {
            let block = pool.try_loan().unwrap().freeze();
            tx.try_send((1, block)).unwrap();
            black_box(rx.try_recv().unwrap());
        });
    });
    group.finish();
}

fn arrays(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("array");
    let mut array = SharedArray1::<f64>::anonymous(1024).unwrap();
    group.bench_function("read guard", |bencher| {
        bencher.iter(|| black_box(array.read().unwrap()[0]));
    });
    group.bench_function("write guard", |bencher| {
        bencher.iter(|| array.write().unwrap()[0] += 1.0);
    });
    let name = format!("pieces-{}", std::process::id());
    let _named = SharedArray1::<f64>::create(&name, 1024).unwrap();
    group.bench_function("open by name", |bencher| {
        bencher.iter(|| black_box(SharedArray1::<f64>::open(&name).unwrap()));
    });
    group.finish();
}

/// What it costs to find the one ring of many that has something, which is the last one.
fn selector(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("selector");
    for rings in [1, 100, 1000] {
        let segment = Segment::options().objects(rings).len(rings << 13).anonymous().unwrap();
        let options = Records::options().capacity(4096);
        let (mut senders, mut receivers): (Vec<_>, Vec<_>) = (0..rings)
            .map(|_| options.clone().create_in(&segment).unwrap().split().unwrap())
            .unzip();
        let mut selector = Selector::new();
        for (token, rx) in receivers.iter().enumerate() {
            selector.add(token, rx);
        }
        let last = rings - 1;
        group.bench_function(BenchmarkId::new("send, find, receive", rings), |bencher| {
            bencher.iter(|| {
                senders[last].try_send([7; 64]).unwrap();
                let token = selector.ready().unwrap();
                black_box(receivers[token].try_recv().unwrap()[0])
            });
        });
    }
    group.finish();
}

fn flow(criterion: &mut Criterion) {
    const ITEMS: u64 = 100_000;
    let mut group = criterion.benchmark_group("flow");
    group.throughput(Throughput::Elements(ITEMS));
    let first = |item: u64| item * 2;
    let second = |item: u64| {
        black_box(item);
    };
    group.bench_function("a node that calls two functions", |bencher| {
        let graph = || {
            let mut graph = Graph::new();
            let source = graph.source("source", Same, 0..ITEMS);
            let both =
                graph.node("both", Same, move |_| each(move |item| second(first(item)))).add();
            graph.connect(source.output(), both.input());
            graph
        };
        bencher.iter_batched(graph, |graph| graph.run().unwrap(), BatchSize::SmallInput);
    });
    group.bench_function("a node for each of them", |bencher| {
        let graph = || {
            let mut graph = Graph::new();
            let source = graph.source("source", Same, 0..ITEMS);
            let step = graph.node("first", Same, move |_| map(first)).add();
            let sink = graph.node("second", Same, move |_| each(second)).add();
            graph.connect(source.output(), step.input());
            graph.connect(step.output(), sink.input());
            graph
        };
        bencher.iter_batched(graph, |graph| graph.run().unwrap(), BatchSize::SmallInput);
    });
    group.finish();

    let mut yaml = String::from("nodes:\n  source: {class: Source}\n");
    let mut lines = String::from("connections:\n");
    for number in 0..100 {
        yaml.push_str(&format!("  step {number}: {{class: Step}}\n"));
        let from = if number == 0 { "source".into() } else { format!("step {}", number - 1) };
        lines.push_str(&format!("  - {from} -> step {number}\n"));
    }
    yaml.push_str(&lines);
    let registry = Registry::<u64>::new()
        .source("Source", ClassInfo::new().output("out", "Number"), |_| Ok(source(0..3)))
        .node("Step", ClassInfo::new().input("in", "Number").output("out", "Number"), |_| {
            Ok(map(|item: u64| item))
        });
    criterion.bench_function("graph file/read and check 101 nodes", |bencher| {
        bencher.iter(|| registry.check(GraphFile::from_yaml(&yaml).unwrap()).unwrap());
    });
}

criterion_group!(pieces, records, cells, broadcast, queue, latest, blocks, arrays, selector, flow);
criterion_main!(pieces);
