//! Bars that show how far a stream is.

use std::sync::{Arc, OnceLock};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    build::{Build, Open, Upstream},
    item::Item,
    step::{Adds, Mode, Settings, Starter, Step},
};
use crate::flow::{Cause, Flow, Node, Outlet, Place, Thread, WorkerInfo};

/// The mode of [`progress`].
#[derive(Clone, Copy, Debug)]
pub struct Progress;

impl Mode for Progress {
    type Body<I, O, R> = ProgressBar;
}

/// Counts the items that pass, in a bar with this label on the terminal (standard error; nothing is
/// shown where that is a file). Where each item of the sources gives one and they know how many
/// they have, the bar has an end; otherwise it counts.
pub fn progress<T>(label: &str) -> Step<Progress, T, T> {
    let bar = ProgressBar::no_length().with_message(label.to_owned());
    let style = ProgressStyle::with_template("{msg} {pos} items, {elapsed}, {per_sec}");
    show(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
}

/// The same in a bar of the program's own.
pub fn progress_in<T>(bar: &ProgressBar) -> Step<Progress, T, T> {
    show(bar.clone())
}

fn show<T>(bar: ProgressBar) -> Step<Progress, T, T> {
    let start: Starter<()> = Arc::new(|_: &WorkerInfo| Ok::<_, Cause>(()));
    Step::new(bar, start, Settings::new("progress", true))
}

impl<T: Send + 'static> Adds<T, T, ()> for Progress
where
    Thread: Place<Item<T>>,
{
    fn add(
        step: Step<Progress, T, T, ()>,
        upstream: Upstream<T>,
        build: &mut Build,
        ordered: bool,
    ) -> Open<T> {
        let open = upstream(build, ordered);
        let (room, expected) = (open.room, open.expected.clone());
        let bar = step.body;
        let told = expected.clone();
        let make = move |_: &WorkerInfo| Counts {
            bar: bar.clone(),
            expected: told.clone(),
            item: std::marker::PhantomData::<T>,
        };
        let name = build.name(None, "progress");
        let node = build.graph.node(&name, Thread, make).add();
        build.connect(open, node.input());
        Open { outputs: vec![node.output()], room, is_numbered: false, expected }
    }
}

struct Counts<T> {
    bar: ProgressBar,
    /// How many items there will be, once all sources have told.
    expected: Option<Vec<Arc<OnceLock<u64>>>>,
    item: std::marker::PhantomData<T>,
}

impl<T: 'static> Node for Counts<T> {
    type In = Item<T>;
    type Out = Item<T>;

    fn svc(&mut self, item: Item<T>, out: &mut Outlet<Item<T>>) -> Result<Flow, Cause> {
        let told = self.expected.as_ref().and_then(|all| all.iter().map(|one| one.get()).sum());
        if let Some(sum) = told {
            self.expected = None;
            self.bar.set_length(sum);
            let style = "{msg} {wide_bar} {pos}/{len}, {elapsed}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(style) {
                self.bar.set_style(style);
            }
        }
        self.bar.inc(1);
        out.send(item)?;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, _out: &mut Outlet<Item<T>>) -> Result<(), Cause> {
        self.bar.finish();
        Ok(())
    }
}

impl<T> Drop for Counts<T> {
    fn drop(&mut self) {
        if !self.bar.is_finished() {
            self.bar.abandon();
        }
    }
}
