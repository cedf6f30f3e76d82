//! From stages to a graph.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use super::{Item, step::Settings};
use crate::flow::{Graph, Input, NodeBuilder, Output, edge::Room};

/// A graph that is being made of stages.
#[doc(hidden)]
pub struct Build {
    pub(super) graph: Graph,
    /// Whether everything runs in the caller's thread.
    pub(super) is_local: bool,
    /// How many items the source that is built next may have ready.
    pub(super) ahead: Option<usize>,
    names: HashMap<String, usize>,
    /// Those that were asked for.
    asked: HashSet<String>,
}

/// The end of what has been built: what sends the items.
#[doc(hidden)]
pub struct Open<T> {
    pub(super) outputs: Vec<Output<Item<T>>>,
    pub(super) room: Room,
    /// Whether several workers send them that keep an order.
    pub(super) is_numbered: bool,
    /// How many there will be, where that is known: told by each source when it begins.
    pub(super) expected: Option<Vec<Arc<OnceLock<u64>>>>,
}

/// Builds all that comes before; the flag says whether it keeps the order of the items.
pub(super) type Upstream<T> = Box<dyn FnOnce(&mut Build, bool) -> Open<T> + Send>;

impl Build {
    pub(super) fn new(is_local: bool) -> Build {
        Build {
            graph: Graph::new().named("stages"),
            is_local,
            ahead: None,
            names: HashMap::new(),
            asked: HashSet::new(),
        }
    }

    /// A name for a node: that which was asked for, or one that nobody has.
    pub(super) fn name(&mut self, asked: Option<String>, or: &str) -> String {
        if let Some(name) = asked {
            return name;
        }
        let count = self.names.entry(or.into()).or_default();
        loop {
            *count += 1;
            let name = match *count {
                1 => or.into(),
                count => format!("{or}-{count}"),
            };
            if !self.asked.contains(&name) {
                return name;
            }
        }
    }

    /// Leaves this name to who asks for it, before those that come earlier are built.
    pub(super) fn reserve(&mut self, asked: Option<&String>) {
        self.asked.extend(asked.cloned());
    }

    /// Leads what has been built to a node.
    pub(super) fn connect<T: Send + 'static>(&mut self, from: Open<T>, to: Input<Item<T>>) {
        let Open { outputs, room, .. } = from;
        for output in outputs {
            self.graph.edge(output, to).room(room).add();
        }
    }

    /// Lets one worker take what comes and send it on, if those who come next could not take it by
    /// themselves: numbers of an order are given by one sender, or taken in turn.
    pub(super) fn joined<T: Send + 'static>(
        &mut self,
        open: Open<T>,
        workers: usize,
        ordered: bool,
    ) -> Open<T> {
        let gives_numbers = ordered && workers > 1;
        let joins =
            if gives_numbers { open.outputs.len() > 1 } else { open.is_numbered && workers > 1 };
        if !joins {
            return open;
        }
        let name = self.name(None, "relay");
        let node = self.graph.add_relay(&name);
        let Open { room, ref expected, .. } = open;
        let joined = Open {
            outputs: vec![node.output()],
            room,
            is_numbered: false,
            expected: expected.clone(),
        };
        self.connect(open, node.input());
        joined
    }
}

impl<T> Open<T> {
    /// What a node sends that was built behind this.
    pub(super) fn followed<U, I>(
        output: Output<Item<U>>,
        settings: &Settings<I>,
        expected: Option<Vec<Arc<OnceLock<u64>>>>,
        is_numbered: bool,
    ) -> Open<U> {
        Open {
            outputs: vec![output],
            room: settings.room,
            is_numbered,
            expected: expected.filter(|_| settings.keeps_count),
        }
    }
}

/// What nodes of all modes are told.
pub(super) fn set<'a, I, O>(
    node: NodeBuilder<'a, Item<I>, O>,
    settings: &Settings<I>,
) -> NodeBuilder<'a, Item<I>, O> {
    let node = node.workers(settings.workers).cpus(settings.cpus.iter().copied());
    node.on_error_with(settings.on_error, settings.clone)
}
