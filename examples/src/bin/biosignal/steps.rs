//! The steps of the analysis as node types.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use examples::biosignal::{
    BandPass, Chunk, Filtered, Meter, Recording, Spectra, Spectrum, Vitals, Window, Windows,
};
use msgproc::flow::file::{ClassInfo, GraphFile, Making, Registry};
use msgproc::flow::{Cause, Flow, Node, Outlet, source, try_each, try_map};
use serde::{Deserialize, Serialize};

/// The class that takes the results.
pub(crate) const VITALS: &str = "Vitals";

/// The class that reads the recording.
pub(crate) const RECORDING: &str = "Recording";

/// What travels from step to step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Item {
    Chunk(Chunk),
    Filtered(Filtered),
    Window(Window),
    Spectrum(Spectrum),
    Vitals(Vitals),
}

/// The settings of a recording.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RecordingSettings {
    file: PathBuf,
    chunk: usize,
}

impl Default for RecordingSettings {
    fn default() -> Self {
        Self { file: bundled_recording(), chunk: 256 }
    }
}

pub(crate) fn bundled_recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ppg.csv")
}

/// Lets the graph read this recording; without one, what the graph names.
pub(crate) fn set_input(file: &mut GraphFile, input: Option<&Path>) -> Result<(), String> {
    let Some(input) = input else { return Ok(()) };
    let text =
        input.to_str().ok_or("the name of the recording is no text, and the graph has it")?;
    let mut found = false;
    for node in file.nodes.iter_mut().filter(|node| node.class == RECORDING) {
        node.settings.insert("file", text);
        found = true;
    }
    if found { Ok(()) } else { Err("the graph has no Recording that would read the input".into()) }
}

/// An item came that is none of those that the file's connections promise.
fn other(wanted: &str) -> Cause {
    format!("an item came that is no {wanted}").into()
}

/// Cuts windows, and tells at the end if there was none.
struct WindowsNode(Windows);

impl Node for WindowsNode {
    type In = Item;
    type Out = Item;

    fn svc(&mut self, item: Item, out: &mut Outlet<Item>) -> Result<Flow, Cause> {
        let Item::Filtered(filtered) = item else { return Err(other("filtered samples")) };
        for window in self.0.push(&filtered)? {
            out.send(Item::Window(window))?;
        }
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, _out: &mut Outlet<Item>) -> Result<(), Cause> {
        Ok(self.0.finish()?)
    }
}

/// The node types, and where the results are put.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    vitals: Arc<Mutex<Vec<Vitals>>>,
}

impl Steps {
    /// The node types.
    pub(crate) fn registry(&self) -> Registry<Item> {
        let vitals = self.vitals.clone();
        Registry::new()
            .source(RECORDING, ClassInfo::new().output("out", "Chunk"), recording)
            .node("BandPass", step("Chunk", "Filtered"), |making| {
                let mut band_pass = BandPass::new(&making.settings()?)?;
                Ok(try_map(move |item| match item {
                    Item::Chunk(chunk) => Ok(Item::Filtered(band_pass.push(&chunk)?)),
                    _ => Err(other("chunk")),
                }))
            })
            .node("Windows", step("Filtered", "Window"), |making| {
                Ok(WindowsNode(Windows::new(&making.settings()?)?))
            })
            .node("Spectra", step("Window", "Spectrum"), |making| {
                making.settings::<()>()?;
                let mut spectra = Spectra::new();
                Ok(try_map(move |item| match item {
                    Item::Window(window) => Ok(Item::Spectrum(spectra.process(&window)?)),
                    _ => Err(other("window")),
                }))
            })
            .node("Meter", step("Spectrum", "Vitals"), |making| {
                let meter = Meter::new(&making.settings()?)?;
                Ok(try_map(move |item| match item {
                    Item::Spectrum(spectrum) => Ok(Item::Vitals(meter.process(&spectrum)?)),
                    _ => Err(other("spectrum")),
                }))
            })
            .sink(VITALS, ClassInfo::new().input("in", "Vitals"), move |making| {
                making.settings::<()>()?;
                if making.node().compute_on.iter().any(|at| at.process().is_some()) {
                    return Err("the program prints what it takes, so it cannot compute in a \
                        process of its own: let its compute_on name none"
                        .into());
                }
                let vitals = vitals.clone();
                Ok(try_each(move |item| {
                    let Item::Vitals(found) = item else { return Err(other("vitals")) };
                    vitals.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                    Ok(())
                }))
            })
    }

    /// What came out, in the order of the windows.
    pub(crate) fn take(&self) -> Vec<Vitals> {
        let mut vitals = self.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vitals = std::mem::take(&mut *vitals);
        vitals.sort_by_key(|vitals| vitals.index);
        vitals
    }
}

fn step(takes: &str, gives: &str) -> ClassInfo {
    ClassInfo::new().input("in", takes).output("out", gives)
}

fn recording(making: &Making<'_>) -> Result<impl Node<In = (), Out = Item> + use<>, Cause> {
    let RecordingSettings { file, chunk } = making.settings()?;
    if chunk == 0 {
        return Err("a chunk has at least one sample".into());
    }
    if making.worker().workers > 1 {
        return Err("it has several workers, and each would send the whole recording".into());
    }
    let recording = Recording::open(file)?;
    let chunks: Vec<_> = recording.chunks(chunk).map(Item::Chunk).collect();
    Ok(source(chunks))
}

/// Reads the recording that a graph names.
pub(crate) fn recording_of(
    node: &msgproc::flow::file::Node,
) -> Result<Recording, Box<dyn std::error::Error>> {
    let RecordingSettings { file, .. } = node.parse_settings()?;
    Ok(Recording::open(file)?)
}
