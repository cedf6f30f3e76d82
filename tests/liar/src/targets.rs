//! What is done with bytes that nobody vouches for: one function for each way in.

use std::{
    cell::RefCell,
    collections::HashMap,
    env,
    fs::{self, File, Permissions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, PermissionsExt},
    },
    process,
};

use ndarray::{Ix1, Ix2, IxDyn};
use shmring::{
    Segment, SharedArray,
    array::{DynArray, npy},
    block::{Block, BlockPool, DynFrame, Frame},
    os,
    ring::{
        broadcast, cells, latest,
        port::{self, Sender},
        queue,
        records::{self, Records},
    },
    transfer::{self, Descriptor, Parcel},
};

use crate::{
    Random, memory,
    rings::{Cell, Kind, Ring, small_segment},
};

/// A way in: takes any bytes, and comes back.
pub type Target = fn(&[u8]);

/// All ways in, by name.
pub const ALL: [(&str, Target); 6] = [
    ("attach", attach),
    ("named", named),
    ("npy", npy),
    ("frame", frame),
    ("message", message),
    ("parcel", parcel),
];

/// Finds a way in by its name.
pub fn find(name: &str) -> Option<Target> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// A segment as somebody left it, and a message with the ring in it.
struct Template {
    image: Vec<u8>,
    message: Vec<u8>,
}

thread_local! {
    static TEMPLATES: RefCell<HashMap<usize, Template>> = RefCell::default();
}

fn with_template<R>(number: usize, use_it: impl FnOnce(&Template) -> R) -> R {
    TEMPLATES.with_borrow_mut(|templates| {
        use_it(templates.entry(number).or_insert_with(|| {
            let kind = Kind::ALL[number % Kind::ALL.len()];
            let segment = small_segment().expect("a few pages");
            let ring = Ring::make(kind, &segment).expect("it has room");
            let mut ends = ring.ends();
            let mut random = Random::new(number as u64);
            for _ in 0..3 {
                ends.round(&mut random);
            }
            let memory = memory::file_of(&segment).expect("it has a file");
            let message = ring.message();
            // Left in order, or as a crash leaves it.
            if number < Kind::ALL.len() {
                drop((ends, ring, segment));
            }
            Template { image: memory::image(&memory).expect("it can be read"), message }
        }))
    })
}

/// The seeds: what is no lie.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "attach" | "named" => {
            let template = |number: usize| {
                let raw =
                    |template: &Template| [&[number as u8 | RAW], &template.image[..]].concat();
                [vec![number as u8], with_template(number, raw)]
            };
            (0..2 * Kind::ALL.len()).flat_map(template).collect()
        }
        "npy" => {
            let shapes: [&[usize]; 4] = [&[], &[3], &[2, 5], &[1, 2, 3, 4]];
            let header = |shape: &[usize]| {
                let order = if shape.len() == 2 { npy::Order::Fortran } else { npy::Order::C };
                let header = npy::Header {
                    dtype: shmring::array::Dtype::ALL[3],
                    order,
                    shape: shape.into(),
                };
                let mut bytes = header.write();
                bytes.resize(bytes.len() + header.bytes().unwrap_or(0), 1);
                bytes
            };
            shapes.map(header).into()
        }
        "frame" => {
            let pool = BlockPool::options().blocks(1).block_len(FRAME_BLOCK).anonymous();
            let pool = pool.expect("a page");
            let loan = pool.loan_frame::<f32, _>((4, 5)).expect("it is free");
            vec![loan.freeze().block().as_bytes().to_vec()]
        }
        _ => vec![vec![0], vec![1], vec![2], vec![3; 40]],
    }
}

/// The image is the input itself, and not a template with words overwritten.
const RAW: u8 = 0x80;

/// What an input of `attach` or `named` makes of memory.
fn image_of<R>(data: &[u8], use_it: impl FnOnce(Kind, Vec<u8>, &[u8], Random) -> R) -> Option<R> {
    let (how, rest) = data.split_first()?;
    let number = usize::from(how & !RAW) % (2 * Kind::ALL.len());
    let kind = Kind::ALL[number % Kind::ALL.len()];
    Some(with_template(number, |template| {
        if how & RAW != 0 {
            let random = Random::new(rest.len() as u64);
            return use_it(kind, rest.to_vec(), &template.message, random);
        }
        let (mut image, mut random) = (template.image.clone(), Random::of(rest));
        memory::patch(&mut image, &mut random);
        use_it(kind, image, &template.message, random)
    }))
}

/// How many bells the header says that it has, as far as it is worth bringing them.
fn bells(image: &[u8]) -> usize {
    let bells = image.get(12..16).and_then(|bytes| bytes.try_into().ok());
    bells.map_or(0, u32::from_le_bytes).min(4) as usize
}

fn use_all(ring: &Ring, memory: &File, random: &mut Random) {
    let mut ends = ring.ends();
    let words = memory.metadata().is_ok_and(|data| data.len() >= 8);
    for _ in 0..3 {
        ends.round(random);
        if random.below(4) == 0 && words {
            memory::overwrite(memory, random);
        }
    }
    ends.look();
}

/// The memory of an anonymous segment that came in a message, with a ring of some kind in it:
/// header, participants, objects, and all of the ring. Both roles, with some operations.
pub fn attach(data: &[u8]) {
    image_of(data, |kind, image, message, mut random| {
        let memory = memory::anonymous(&image).expect("a few pages");
        let file = File::from(memory.try_clone().expect("a descriptor"));
        let bell = || Some(OwnedFd::from(os::Event::new().ok()?.try_clone().ok()?));
        let bells = (0..bells(&image)).filter_map(|_| bell());
        let fds = [memory].into_iter().chain(bells).collect();
        match Ring::receive(kind, message, fds) {
            Ok(ring) => use_all(&ring, &file, &mut random),
            Err(reason) => assert!(!reason.is_empty()),
        }
    });
}

/// A file that has the name of a segment.
struct NamedFile {
    name: String,
    file: File,
}

impl NamedFile {
    fn new(name: String, kind: &str, bytes: &[u8]) -> io::Result<NamedFile> {
        let path = path(&name, kind);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all_at(bytes, 0)?;
        Ok(NamedFile { name, file })
    }
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        for kind in ["ring", "npy"] {
            let _ = fs::remove_file(path(&self.name, kind));
        }
    }
}

fn path(name: &str, kind: &str) -> String {
    format!("/dev/shm/shmring.{name}.{kind}")
}

thread_local! {
    static PREFIX: RefCell<String> = RefCell::new(
        env::var("SHMRING_LIAR_PREFIX").unwrap_or_else(|_| format!("liar-{}-", process::id())),
    );
}

/// Lets the names of this thread's files begin with this.
pub fn set_prefix(prefix: String) {
    PREFIX.set(prefix);
}

fn name(tag: &str) -> String {
    PREFIX.with_borrow(|prefix| format!("{prefix}{tag}"))
}

/// The file of a named segment: opened, observed, and used.
pub fn named(data: &[u8]) {
    image_of(data, |kind, image, _, mut random| {
        let file = NamedFile::new(name("segment"), "ring", &image).expect("/dev/shm has room");
        match Segment::observe(&file.name) {
            Ok(observer) => {
                let _ = (observer.len(), observer.places(), observer.participants());
                for object in observer.objects() {
                    let number = object.number;
                    let _ = (observer.records(number), observer.broadcast(number));
                    let _ = observer.queue(number);
                    let latest = observer.latest::<Cell>(number);
                    let _ = latest.map(|mut latest| latest.try_get().map(|value| value[0]));
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        match Ring::open(kind, &file.name) {
            Ok(ring) => use_all(&ring, &file.file, &mut random),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

/// The header of a `.npy` file, and an array behind it.
pub fn npy(data: &[u8]) {
    match npy::Header::parse(data) {
        Ok((header, data_at)) => {
            assert!(data_at <= data.len());
            assert!(header.bytes().is_ok());
            let written = header.write();
            let again = npy::Header::parse(&written).expect("our own header");
            assert_eq!(again, (header, written.len()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let file = memory::anonymous(data).expect("a few pages");
    let read = || postcard::from_bytes::<DynArray>(&[0, 0]);
    if let Ok(array) = transfer::supply(Parcel::from_fds(vec![file]), read) {
        let _ = (array.shape(), array.nbytes(), format!("{array:?}"));
        let values = array.to_f64().map(|values| values.len());
        assert_eq!(values.expect("it is all there"), array.len());
        if let Ok(mut typed) = array.typed::<f32, Ix2>() {
            let _ = typed.read().map(|values| values.sum());
            typed.write().expect("nobody has it").fill(1.0);
            let _ = typed.copy_out();
        }
    }
}

/// Bytes of the block that a frame lies in.
const FRAME_BLOCK: usize = 1024;

/// The header of a frame.
pub fn frame(data: &[u8]) {
    thread_local! {
        static POOL: BlockPool = {
            let options = BlockPool::options().blocks(1).block_len(FRAME_BLOCK);
            options.anonymous().expect("a page")
        };
    }
    POOL.with(|pool| {
        let mut loan = pool.try_loan().expect("it came back");
        let len = data.len().min(FRAME_BLOCK);
        loan.as_bytes_mut()[..len].copy_from_slice(&data[..len]);
        loan.set_len(len);
        let block = loan.freeze();
        let _ = Frame::<u8, IxDyn>::open(block.clone()).map(|frame| frame.to_array());
        let _ = Frame::<f32, Ix2>::open(block.clone()).map(|frame| frame.copy_out());
        match DynFrame::open(block) {
            Ok(frame) => {
                let bytes = frame.bytes().expect("it is held").len();
                assert!(bytes == frame.nbytes() && bytes <= len);
                assert_eq!(frame.values().expect("it is held").len(), frame.len());
                let _ = (frame.copy_bytes(), frame.age(), frame.time(), format!("{frame:?}"));
                let _ = frame.typed::<u16, Ix1>().map(|frame| frame.view().map(|view| view.len()));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        assert_eq!(pool.in_use(), 0);
    });
}

/// Where an object lies in its segment, as LAYOUT.md says.
fn object_at(memory: &File, number: u32) -> u64 {
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).expect("it is that long");
        u64::from_le_bytes(bytes)
    };
    let participants = word(24) & u64::from(u32::MAX);
    word(128 + participants * 128 + u64::from(number) * 64 + 16)
}

/// A record that should be a message with blocks: its table and what serde reads.
pub fn message(data: &[u8]) {
    type Message = (u32, Vec<Block>, String);
    let mut random = Random::of(data);
    let segment = small_segment().expect("a few pages");
    let pool = BlockPool::options().blocks(4).block_len(64).carriers(2);
    let pool = pool.create_in(&segment).expect("it has room");
    let ring = Records::options().capacity(1024).create_in(&segment).expect("it has room");
    let (mut tx, mut rx) = port::ends::<Message>(&ring).expect("both are free");
    let blocks = (0..random.below(3)).filter_map(|_| Some(pool.try_loan().ok()?.freeze()));
    let sent = tx.try_send((7, blocks.collect(), "text".into()));
    sent.expect("there is room");

    // The first record begins where the data do.
    let memory = memory::file_of(&segment).expect("it has a file");
    let at = object_at(&memory, ring.number()) + 512;
    let mut header = [0; 8];
    memory.read_exact_at(&mut header, at).expect("it is that long");
    let len = u64::from_le_bytes(header) & u64::from(u32::MAX);
    let mut payload = vec![0; len as usize];
    memory.read_exact_at(&mut payload, at + 8).expect("it is that long");
    if random.below(2) == 0 {
        memory::patch(&mut payload, &mut random);
    } else {
        let chosen = random.bytes(len as usize);
        payload[..chosen.len()].copy_from_slice(chosen);
    }
    memory.write_all_at(&payload, at + 8).expect("it is that long");

    let received = rx.try_recv();
    if let Ok((_, blocks, _)) = &received {
        let _ = blocks.iter().map(|block| block.as_bytes().len()).max();
    }
    drop(received);
    // The ring goes on.
    let _: Result<(), _> = Sender::try_send(&mut tx, (8, Vec::new(), String::new()));
    let _ = rx.try_recv();
    drop((tx, rx));
    pool.repair();
    let _ = (pool.stats(), pool.in_use());
}

type Ends = (
    (records::Producer, records::Consumer),
    (cells::Producer<Cell>, cells::Consumer<Cell>),
    (broadcast::Producer, broadcast::Consumer),
    (queue::Producer, queue::Consumer),
    (latest::Writer<Cell>, latest::Reader<Cell>),
    Block,
    SharedArray<f32, Ix2>,
    Descriptor,
);

/// A message on a control channel: bytes, notes and descriptors of ends, blocks, arrays.
pub fn parcel(data: &[u8]) {
    let mut random = Random::of(data);
    let segment = Segment::options().len(32 << 10).participants(3).objects(8).anonymous();
    let segment = segment.expect("a few pages");
    let made = Kind::ALL.map(|kind| Ring::make(kind, &segment).expect("it has room"));
    let [
        Ring::Records(records),
        Ring::Cells(cells),
        Ring::Broadcast(all),
        Ring::Queue(queue),
        Ring::Latest(latest),
        Ring::Blocks(pool, _),
    ] = made
    else {
        unreachable!("each is of its kind")
    };
    let file = OwnedFd::from(File::open("/dev/null").expect("there is one"));
    let ends: Ends = (
        records.split().expect("both are free"),
        cells.split().expect("both are free"),
        (all.producer().expect("it is free"), all.consumer().expect("it is free")),
        queue.split().expect("both are free"),
        (latest.writer().expect("it is free"), latest.reader()),
        pool.try_loan().expect("it is free").freeze(),
        SharedArray::anonymous((2, 3)).expect("a page"),
        Descriptor::from(file),
    );
    let (bytes, parcel) = transfer::collect_for(process::id(), || postcard::to_stdvec(&ends));
    let (mut bytes, mut notes) = (bytes.expect("all of it can be sent"), parcel.notes().to_vec());
    let duplicates = parcel.fds().iter().map(|fd| os::duplicate(fd.as_fd()));
    let mut fds: Vec<OwnedFd> = duplicates.map(|fd| fd.expect("a descriptor")).collect();
    if random.below(2) == 0 {
        parcel.sent();
    } else {
        drop(parcel);
    }
    memory::patch(&mut bytes, &mut random);
    if random.below(2) == 0 {
        memory::patch(&mut notes, &mut random);
    }
    if random.below(4) == 0 {
        let count = random.below(fds.len() + 1);
        fds.truncate(count);
    }
    let parcel = shmring::received(fds, &notes);
    let read = || postcard::take_from_bytes::<Ends>(&bytes).map(|(ends, _)| ends);
    match random.below(8) {
        0 => drop(parcel),
        _ => drop(transfer::supply(parcel, read)),
    }
    drop(ends);
    pool.repair();
    let _ = (records.stats(), queue.stats(), all.stats(), pool.in_use());
}
