//! A JPEG encoder for pictures of flat 8×8 blocks, which decode exactly. It
//! knows every sampling that a frame header can say.

/// Code lengths of the usual DC table of luma: how many codes have 1, 2, … bits.
const DC_LENGTHS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];

/// The samples of one component for each unit of the colours, across and down.
pub(super) type Sampling = (usize, usize);

/// Encodes a picture of that many samplings; `luma(x, y)` is the brightness of
/// a block. The other components are grey. One scan, interleaved.
pub(super) fn encode(
    (width, height): (usize, usize),
    samplings: &[Sampling],
    luma: impl Fn(usize, usize) -> u8,
) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8];
    let mut segment = |code: u8, payload: &[u8]| {
        bytes.extend([0xFF, code]);
        bytes.extend((payload.len() as u16 + 2).to_be_bytes());
        bytes.extend(payload);
    };
    // With all quantizers 1, the DC coefficient is eight times the brightness;
    // with the first of them 8 it is the brightness.
    segment(0xDB, &[&[0, 8][..], &[1; 63]].concat());
    segment(0xC4, &[&[0][..], &DC_LENGTHS, &Vec::from_iter(0..12)].concat());
    // The only AC code is the end of block: a zero bit.
    segment(0xC4, &[&[0x10, 1][..], &[0; 15], &[0]].concat());
    let count = samplings.len() as u8;
    let mut frame = vec![8];
    frame.extend((height as u16).to_be_bytes());
    frame.extend((width as u16).to_be_bytes());
    frame.push(count);
    let mut scan = vec![count];
    for (id, (across, down)) in (1..).zip(samplings) {
        frame.extend([id, (across << 4 | down) as u8, 0]);
        scan.extend([id, 0]);
    }
    scan.extend([0, 63, 0]);
    segment(0xC0, &frame);
    segment(0xDA, &scan);

    let across = samplings.iter().map(|s| s.0).max().unwrap();
    let down = samplings.iter().map(|s| s.1).max().unwrap();
    let mut bits = Bits::default();
    let mut before = vec![0; samplings.len()];
    // A scan of one component goes through its blocks row by row.
    let unit = if samplings.len() == 1 { (1, 1) } else { (across, down) };
    for row in 0..height.div_ceil(8 * unit.1) {
        for column in 0..width.div_ceil(8 * unit.0) {
            for (i, &(h, v)) in samplings.iter().enumerate() {
                let (h, v) = if samplings.len() == 1 { (1, 1) } else { (h, v) };
                for block in 0..h * v {
                    let (x, y) = (column * h + block % h, row * v + block / h);
                    let value = if i == 0 { i32::from(luma(x, y)) - 128 } else { 0 };
                    bits.difference(value - before[i]);
                    before[i] = value;
                    bits.push(0, 1);
                }
            }
        }
    }
    bytes.extend(bits.finish());
    bytes.extend([0xFF, 0xD9]);
    bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for i in (0..count).rev() {
            self.pending = self.pending << 1 | value >> i & 1;
            self.count += 1;
            if self.count == 8 {
                self.bytes.push(self.pending as u8);
                if self.pending as u8 == 0xFF {
                    self.bytes.push(0);
                }
                (self.pending, self.count) = (0, 0);
            }
        }
    }

    /// Codes the difference of two DC coefficients.
    fn difference(&mut self, difference: i32) {
        let category = i32::BITS - difference.abs().leading_zeros();
        let (mut code, mut left) = (0, category as usize);
        for (length, &codes) in (1..).zip(&DC_LENGTHS) {
            let codes = usize::from(codes);
            if left < codes {
                self.push(code + left as u32, length);
                break;
            }
            left -= codes;
            code = (code + codes as u32) << 1;
        }
        let low = if difference < 0 { difference - 1 } else { difference };
        self.push(low as u32, category);
    }

    fn finish(mut self) -> Vec<u8> {
        self.push(0x7F, (8 - self.count) % 8);
        self.bytes
    }
}
