//! Compares what a graph gave with a plain loop over the same steps.

use examples::biosignal::{Powers, Settings, Vitals, analyse};
use msgproc::flow::file::{GraphFile, Node};

use crate::Failure;
use crate::steps::{RECORDING, recording_of};

/// Runs the steps in a plain loop, with the settings of the graph. Tells how many windows are the
/// same.
pub(crate) fn verify(file: &GraphFile, vitals: &[Vitals]) -> Result<usize, Failure> {
    let settings = Settings {
        band_pass: only(file, "BandPass")?.parse_settings()?,
        window: only(file, "Windows")?.parse_settings()?,
        meter: only(file, "Meter")?.parse_settings()?,
    };
    let expected = analyse(&recording_of(only(file, RECORDING)?)?, &settings)?;
    if expected.len() != vitals.len() {
        return Err(format!(
            "the graph gave {} windows, and a plain loop {}",
            vitals.len(),
            expected.len()
        )
        .into());
    }
    match expected.iter().zip(vitals).find(|(one, two)| bits(one) != bits(two)) {
        Some((expected, found)) => Err(format!(
            "window {} differs: the graph gave {found:?}, and a plain loop {expected:?}",
            expected.index
        )
        .into()),
        None => Ok(vitals.len()),
    }
}

/// The one node of a class.
fn only<'a>(file: &'a GraphFile, class: &str) -> Result<&'a Node, Failure> {
    let mut nodes = file.nodes.iter().filter(|node| node.class == class);
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node),
        _ => Err(format!(
            "cannot verify: the plain loop has one {class}, and the graph not just one"
        )
        .into()),
    }
}

/// All numbers as bits, so that -0 and 0 differ.
fn bits(vitals: &Vitals) -> [u64; 8] {
    let rate = |rate: Option<f64>| rate.map_or(u64::MAX, f64::to_bits);
    let Vitals { index, start, heart_rate, counted_rate, quality, powers } = vitals;
    let Powers { respiration, cardiac, rest } = powers;
    [
        *index,
        start.to_bits(),
        rate(*heart_rate),
        rate(*counted_rate),
        quality.to_bits(),
        respiration.to_bits(),
        cardiac.to_bits(),
        rest.to_bits(),
    ]
}
