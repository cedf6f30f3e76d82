//! Graphs of files: what they say, at every place.

mod joins;
mod places;
mod problems;

use std::{thread, time::Duration};

use msgproc::flow::{
    Cause, Flow, Node, Outlet, each,
    file::{ClassInfo, GraphFile, Loaded, Location, Registry},
    flat_map, from_fn, map_async, source, try_map,
};
use serde::{Deserialize, Serialize};

use crate::common::Kept;

pub(crate) fn tests() -> Vec<testkit::Test> {
    [places::tests(), problems::tests(), joins::tests()].into_iter().flatten().collect()
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Item {
    Number(u64),
    At(u64, f64),
    Name(String),
    Row(Vec<Item>),
}

fn tick(item: &Item) -> Option<u64> {
    match item {
        Item::Number(tick) | Item::At(tick, _) => Some(*tick),
        _ => None,
    }
}

fn row(items: Vec<Item>) -> Result<Item, String> {
    if items.contains(&Item::Number(u64::MAX)) {
        Err("no row".into())
    } else {
        Ok(Item::Row(items))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    #[serde(default = "one")]
    step: u64,
    to: u64,
    /// How long it pauses after each hundred.
    #[serde(default)]
    pause_ms: u64,
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
struct Divisor {
    by: u64,
}

/// Sends numbers from output 0, and their sines from output 1.
struct Both;

impl Node for Both {
    type In = Item;
    type Out = Item;

    fn svc(&mut self, item: Item, out: &mut Outlet<Item>) -> Result<Flow, Cause> {
        let number = tick(&item).ok_or("no number")?;
        out.send_on(1, Item::At(number, (number as f64).sin()))?;
        out.send(item)?;
        Ok(Flow::GoOn)
    }
}

/// Says at which input something came.
struct Inputs;

/// Says at the end what all numbers are together.
struct Sum(u64);

impl Node for Sum {
    type In = Item;
    type Out = Item;

    fn svc(&mut self, item: Item, _: &mut Outlet<Item>) -> Result<Flow, Cause> {
        self.0 += tick(&item).ok_or("no number")?;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<Item>) -> Result<(), Cause> {
        Ok(out.send(Item::Number(self.0))?)
    }
}

impl Node for Inputs {
    type In = Item;
    type Out = Item;

    fn svc(&mut self, _: Item, _: &mut Outlet<Item>) -> Result<Flow, Cause> {
        Err("it is told the input".into())
    }

    fn svc_on(&mut self, input: usize, item: Item, out: &mut Outlet<Item>) -> Result<Flow, Cause> {
        out.send(Item::Row(vec![Item::Number(input as u64), item]))?;
        Ok(Flow::GoOn)
    }
}

/// The node types of these tests, and what came to the sinks.
pub(crate) fn registry() -> (Registry<Item>, Kept<Item>) {
    let kept: Kept<Item> = Kept::default();
    let copy = kept.clone();
    let numbers = || ClassInfo::new().input("in", "Number").output("out", "Number");
    let main = std::process::id();
    let registry = Registry::new()
        .source("Count", ClassInfo::new().output("out", "Number"), |making| {
            let Count { step, to, pause_ms } = making.settings()?;
            if step == 0 {
                return Err("a step of 0 leads nowhere".into());
            }
            let pause = move |n: &u64| {
                if pause_ms > 0 && n / step % 100 == 99 {
                    thread::sleep(Duration::from_millis(pause_ms));
                }
            };
            Ok(source((0..to).step_by(step as usize).inspect(pause).map(Item::Number)))
        })
        .source("Forever", ClassInfo::new().output("out", "Number"), |_| {
            Ok(source((0..).map(Item::Number)))
        })
        .source("Name", ClassInfo::new().output("out", "Name"), |making| {
            let name: String = making.node().name.clone();
            Ok(source([Item::Name(name)]))
        })
        .node("Both", numbers().output("sines", "Sine"), |_| Ok(Both))
        .node("Tenfold", numbers(), |_| {
            Ok(try_map(|item: Item| tick(&item).map(|n| Item::Number(10 * n)).ok_or("no number")))
        })
        .node("Twice", numbers(), |_| Ok(flat_map(|item: Item| [item.clone(), item])))
        .node("Whole", numbers(), |making| {
            let Divisor { by } = making.settings()?;
            Ok(try_map(move |item: Item| match tick(&item) {
                Some(n) if n % by != 0 => Err(format!("{n} is not divided by {by}")),
                _ => Ok(item),
            }))
        })
        .node("Long", numbers(), |making| {
            let Divisor { by } = making.settings()?;
            Ok(try_map(move |item: Item| {
                let length = by + tick(&item).ok_or("no number")?;
                Ok::<_, Cause>(Item::Name("x".repeat(length as usize)))
            }))
        })
        .node("Sum", numbers(), |_| Ok(Sum(0)))
        .node("Deadly", numbers(), move |making| {
            let Divisor { by } = making.settings()?;
            Ok(try_map(move |item: Item| {
                let dies = tick(&item) == Some(by) && std::process::id() != main;
                if dies {
                    testkit::kill9(std::process::id());
                }
                Ok::<Item, Cause>(item)
            }))
        })
        .node("Halve", numbers().optional_input("again", "Number").output("half", "Number"), |_| {
            Ok(from_fn(|item: Item, out: &mut Outlet<Item>| {
                match tick(&item).ok_or("no number")? {
                    n if n > 0 && n % 2 == 0 => out.send_on(1, Item::Number(n / 2))?,
                    _ => out.send(item)?,
                }
                Ok(Flow::GoOn)
            }))
        })
        .node("Awaited", numbers(), |_| {
            Ok(map_async(8, async |item: Item| {
                tokio::task::yield_now().await;
                item
            }))
        })
        .node("Same", numbers(), |_| Ok(try_map(Ok::<Item, Cause>)))
        .node("OnlyHere", numbers(), move |_| {
            if std::process::id() != main {
                return Err("not here".into());
            }
            Ok(try_map(Ok::<Item, Cause>))
        })
        .node(
            "Inputs",
            ClassInfo::new()
                .input("a", "Number")
                .optional_input("b", "Number")
                .output("out", "Row"),
            |_| Ok(Inputs),
        )
        .node(
            "AllInputs",
            ClassInfo::new().input("a", "Number").input("b", "Number").output("out", "Row"),
            |_| Ok(Inputs),
        )
        .join_by_tick(tick, row)
        .join_latest(row)
        .join_nearest(tick, row)
        .sink("Keep", ClassInfo { inputs: any(), outputs: vec![] }, move |_| {
            let kept = copy.clone();
            Ok(each(move |item| kept.lock().unwrap().push(item)))
        })
        .sink("Drop", ClassInfo { inputs: any(), outputs: vec![] }, |_| {
            Ok(from_fn(|_: Item, _: &mut Outlet<()>| Ok(Flow::GoOn)))
        });
    (registry, kept)
}

fn any() -> Vec<msgproc::flow::file::PortInfo> {
    vec![msgproc::flow::file::PortInfo { name: "in".into(), items: None, required: true }]
}

/// Places for the nodes of a graph, in turn.
const PLACES: [&[&str]; 8] = [
    &[""],
    &["1"],
    &["2:1"],
    &["", "1", "2:1"],
    &["1:", "2:", "", "3:a", "3:b"],
    &["1", "2", "3", "4", "5", "6"],
    &["left:", "right:", "gpu:cuda"],
    &["task", "", "2:task", "task"],
];

/// The graph with its nodes at these places; `Keep` stays here.
fn placed(registry: &Registry<Item>, yaml: &str, places: &[&str]) -> Loaded<Item> {
    let mut file = GraphFile::from_yaml(yaml).unwrap();
    let mut places = places.iter().cycle();
    for node in &mut file.nodes {
        if node.class != "Keep" {
            let location: Location = places.next().unwrap().parse().unwrap();
            node.compute_on = vec![location];
        }
    }
    registry.check(file).unwrap()
}

fn rows(rows: impl IntoIterator<Item = Vec<Item>>) -> Vec<Item> {
    rows.into_iter().map(Item::Row).collect()
}
