//! The structure of a JPEG, checked before it is decoded.
//!
//! Decoders are lenient: where entropy-coded data ends too early they go on
//! with zero bits and return a picture that is partly grey. A baseline JPEG of
//! one scan is therefore given to the decoder with some bytes of ones before
//! each restart marker and before the end. No Huffman code consists of ones
//! only (ITU-T T.81, C.2), so that a decoder in need of more data than there is
//! fails on them, and one that is not never looks at them.

use super::Broken;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DHT: u8 = 0xC4;
const DRI: u8 = 0xDD;
const APP14: u8 = 0xEE;
const COM: u8 = 0xFE;

/// Longer than what a decoder reads ahead (eight bytes), stuffed.
const ONES: [u8; 32] = {
    let mut ones = [0xFF; 32];
    let mut i = 1;
    while i < ones.len() {
        ones[i] = 0;
        i += 2;
    }
    ones
};

/// What the samples of a JPEG mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    /// `plain`: luma has one, two (side by side) or four samples for each of
    /// the colour differences.
    YCbCr {
        plain: bool,
    },
    /// Red, green and blue, or four components.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) colours: Colours,
}

/// The frame header.
#[derive(Clone, Debug)]
struct Frame {
    baseline: bool,
    width: usize,
    height: usize,
    components: Vec<Component>,
}

#[derive(Clone, Copy, Debug)]
struct Component {
    id: u8,
    horizontal: usize,
    vertical: usize,
}

/// Walks to the frame header and returns its width and height.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), Broken> {
    if !bytes.starts_with(&[0xFF, SOI]) {
        return Err(Broken::new("neither a JPEG nor a PNG"));
    }
    let mut reader = Walker { bytes, at: 2 };
    loop {
        match reader.marker()? {
            SOS | EOI => return Err(Broken::new("picture data without a header")),
            code @ 0xC0..=0xC2 => {
                let frame = Frame::parse(code, reader.segment()?)?;
                return Ok((frame.width, frame.height));
            }
            _ => {
                reader.segment()?;
            }
        }
    }
}

impl Layout {
    /// Walks through the whole of `bytes` and writes into `out` a JPEG of the
    /// same picture on which a decoder fails if anything is missing.
    pub(super) fn prepare(bytes: &[u8], out: &mut Vec<u8>) -> Result<Self, Broken> {
        out.clear();
        if !bytes.starts_with(&[0xFF, SOI]) {
            return Err(Broken::new("neither a JPEG nor a PNG"));
        }
        out.extend_from_slice(&[0xFF, SOI]);
        let mut reader = Walker { bytes, at: 2 };
        let mut frame: Option<Frame> = None;
        let mut adobe_transform = None;
        let mut restart_interval = 0;
        let mut tables = false;
        let mut scans = 0;
        let mut components = 0;
        loop {
            let code = reader.marker()?;
            if code == EOI {
                break;
            }
            let segment = reader.segment()?;
            match code {
                0xC0..=0xC2 if frame.is_some() => {
                    return Err(Broken::new("two frame headers in one JPEG"));
                }
                0xC0..=0xC2 => frame = Some(Frame::parse(code, segment)?),
                0xC3 | 0xC5..=0xC7 | 0xC9..=0xCF => {
                    return Err(Broken::new(
                        "coded in a rare way (lossless, arithmetic or hierarchical)",
                    ));
                }
                DHT => tables = true,
                DRI => restart_interval = be16(segment, 0)?,
                APP14 if segment.starts_with(b"Adobe") => {
                    adobe_transform = segment.get(11).copied();
                }
                // Nothing in these changes the picture.
                0xE1..=0xEF | COM if code != APP14 => continue,
                _ => {}
            }
            if code != SOS {
                push_segment(out, code, segment);
                continue;
            }
            let frame =
                frame.as_ref().ok_or_else(|| Broken::new("picture data without a header"))?;
            scans += 1;
            if scans == 1 && !tables && frame.baseline {
                // Most cameras leave out the tables that all of them use.
                push_segment(out, DHT, &standard_tables());
            }
            push_segment(out, SOS, segment);
            let coded = usize::from(segment.first().copied().unwrap_or(0));
            let whole = frame.baseline && coded == frame.components.len();
            components += coded;
            let restarts = reader.scan(whole, out)?;
            if whole && restart_interval > 0 {
                let needed = frame.units().max(1).div_ceil(restart_interval) - 1;
                if restarts != needed && restarts != needed + 1 {
                    return Err(Broken::new(format!(
                        "{restarts} restart markers where {needed} belong"
                    )));
                }
            }
        }
        let frame = frame.filter(|_| scans > 0);
        let frame = frame.ok_or_else(|| Broken::new("no picture data"))?;
        if frame.baseline && components != frame.components.len() {
            return Err(Broken::new("scans are missing, or there are too many"));
        }
        if frame.baseline && scans > 1 && frame.components.iter().any(|c| c.vertical > 1) {
            return Err(Broken::new(
                "sampled vertically in separate scans, which is not supported",
            ));
        }
        out.extend_from_slice(&[0xFF, EOI]);
        Ok(Self {
            width: frame.width,
            height: frame.height,
            colours: frame.colours(adobe_transform)?,
        })
    }
}

impl Frame {
    fn parse(code: u8, segment: &[u8]) -> Result<Self, Broken> {
        let damaged = || Broken::new("a damaged frame header");
        let (&[precision, h1, h0, w1, w0, count], rest) =
            segment.split_first_chunk::<6>().ok_or_else(damaged)?;
        if precision != 8 {
            return Err(Broken::new(format!("{precision} bits a sample, not 8")));
        }
        let components: Vec<_> = rest
            .as_chunks::<3>()
            .0
            .iter()
            .map(|&[id, sampling, _]| Component {
                id,
                horizontal: usize::from(sampling >> 4),
                vertical: usize::from(sampling & 15),
            })
            .collect();
        let sampling = 1..=4;
        let sound = components.len() == usize::from(count)
            && rest.len() == 3 * components.len()
            && components
                .iter()
                .all(|c| sampling.contains(&c.horizontal) && sampling.contains(&c.vertical));
        if !sound || components.is_empty() {
            return Err(damaged());
        }
        Ok(Self {
            baseline: code != 0xC2,
            width: usize::from(u16::from_be_bytes([w1, w0])),
            height: usize::from(u16::from_be_bytes([h1, h0])),
            components,
        })
    }

    /// Counts the minimum coded units of a scan over all components.
    fn units(&self) -> usize {
        let (across, down) = match &self.components[..] {
            // A scan of one component is not interleaved.
            [_] => (1, 1),
            all => (
                all.iter().map(|c| c.horizontal).max().unwrap_or(1),
                all.iter().map(|c| c.vertical).max().unwrap_or(1),
            ),
        };
        self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down)
    }

    fn colours(&self, adobe_transform: Option<u8>) -> Result<Colours, Broken> {
        match (&self.components[..], adobe_transform) {
            ([_], _) => Ok(Colours::Grey),
            ([_, _, _], Some(0)) => Ok(Colours::Other),
            ([r, g, b], None) if [r.id, g.id, b.id] == *b"RGB" => Ok(Colours::Other),
            ([y, cb, cr], _) => {
                let single = |c: &Component| c.horizontal == 1 && c.vertical == 1;
                let plain = matches!((y.horizontal, y.vertical), (1, 1) | (2, 1) | (2, 2));
                Ok(Colours::YCbCr { plain: plain && single(cb) && single(cr) })
            }
            ([_, _, _, _], _) => Ok(Colours::Other),
            (components, _) => {
                Err(Broken::new(format!("{} components, not 1, 3 or 4", components.len())))
            }
        }
    }
}

/// A position in a JPEG.
struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walker<'a> {
    fn byte(&mut self) -> Result<u8, Broken> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(cut_off)?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads the next marker, which must be here.
    fn marker(&mut self) -> Result<u8, Broken> {
        let mut code = self.byte()?;
        if code != 0xFF {
            return Err(Broken::new("something else where a marker belongs"));
        }
        while code == 0xFF {
            code = self.byte()?;
        }
        match code {
            0 | 0x01..=0xBF | 0xD0..=SOI => {
                Err(Broken::new(format!("marker 0xFF{code:02X} where it does not belong")))
            }
            code => Ok(code),
        }
    }

    /// Reads the payload of the segment whose marker was read.
    fn segment(&mut self) -> Result<&'a [u8], Broken> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let length = length.checked_sub(2).ok_or_else(|| Broken::new("a segment of no length"))?;
        let segment = self.bytes.get(self.at..self.at + length).ok_or_else(cut_off)?;
        self.at += length;
        Ok(segment)
    }

    /// Copies entropy-coded data up to the marker that ends it, guarded by ones
    /// if it is the `whole` picture, and counts the restart markers.
    fn scan(&mut self, whole: bool, out: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut restarts = 0;
        loop {
            let rest = &self.bytes[self.at..];
            let run = memchr::memchr(0xFF, rest).ok_or_else(cut_off)?;
            out.extend_from_slice(&rest[..run]);
            self.at += run;
            let marker_at = self.at;
            let mut code = 0xFF;
            while code == 0xFF {
                code = self.byte()?;
            }
            match code {
                0 => out.extend_from_slice(&[0xFF, 0]),
                0xD0..=0xD7 => {
                    if usize::from(code & 7) != restarts % 8 {
                        return Err(Broken::new("a restart marker out of order"));
                    }
                    restarts += 1;
                    if whole {
                        out.extend_from_slice(&ONES);
                    }
                    out.extend_from_slice(&[0xFF, code]);
                }
                _ => {
                    if whole {
                        out.extend_from_slice(&ONES);
                    }
                    self.at = marker_at;
                    return Ok(restarts);
                }
            }
        }
    }
}

fn cut_off() -> Broken {
    Broken::new("cut off before its end")
}

fn be16(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => Ok(usize::from(u16::from_be_bytes([high, low]))),
        _ => Err(Broken::new("a segment that is too short")),
    }
}

fn push_segment(out: &mut Vec<u8>, code: u8, payload: &[u8]) {
    let length = payload.len() as u16 + 2;
    out.extend_from_slice(&[0xFF, code]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The Huffman tables of ITU-T T.81, annex K.3.3, as the payload of one segment.
fn standard_tables() -> Vec<u8> {
    const DC: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    let tables: [(u8, [u8; 16], &[u8]); 4] = [
        (0x00, [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &DC),
        (0x10, [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D], &LUMA_AC_VALUES),
        (0x01, [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &DC),
        (0x11, [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &CHROMA_AC_VALUES),
    ];
    let mut payload = Vec::with_capacity(416);
    for (place, lengths, values) in tables {
        payload.push(place);
        payload.extend_from_slice(&lengths);
        payload.extend_from_slice(values);
    }
    payload
}

#[rustfmt::skip]
const LUMA_AC_VALUES: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7,
    0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5,
    0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
];

#[rustfmt::skip]
const CHROMA_AC_VALUES: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0,
    0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26,
    0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5,
    0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
];
