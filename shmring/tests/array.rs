//! Arrays within one process: their types, their locks between handles, how they travel.

use std::{fmt::Debug, ops::Range, thread, time::Duration};

use half::f16;
use ndarray::{Array, Array2, Dimension, IntoDimension, IxDyn, array};
use num_complex::Complex;
use shmring::{
    Error, SharedArray,
    array::{
        Bool, DynArray, Element, Order, Scalar, SharedArray0, SharedArray1, SharedArray2,
        SharedArray3,
    },
    cleanup, transfer,
};

const SOON: Duration = Duration::from_millis(30);
const LATE: Duration = Duration::from_secs(30);

fn round_trip<T: Element + PartialEq + Debug>(values: [T; 6]) {
    for order in [Order::C, Order::Fortran] {
        let name = testkit::name("types");
        let wanted = Array2::from_shape_vec((2, 3), values.to_vec()).unwrap();
        let mut made = SharedArray2::<T>::options()
            .fill(values[0])
            .order(order)
            .create(&name, (2, 3))
            .unwrap();
        assert_eq!(made.read().unwrap().first(), Some(&values[0]));
        assert_eq!(made.read().unwrap().last(), Some(&values[0]));
        made.write().unwrap().assign(&wanted);

        let opened = SharedArray2::<T>::open(&name).unwrap();
        assert_eq!(opened.order(), order);
        assert_eq!(*opened.read().unwrap(), *wanted);
        let copy = opened.copy_out().unwrap();
        assert_eq!(copy, wanted);
        assert_eq!(copy.is_standard_layout(), order == Order::C);

        let dynamic = DynArray::open(&name).unwrap();
        assert_eq!(dynamic.dtype(), T::DTYPE);
        assert_eq!(dynamic.nbytes(), 6 * size_of::<T>());
        let again: SharedArray<T> = dynamic.typed().unwrap();
        assert_eq!(*again.read().unwrap(), *wanted.into_dyn());
    }
}

#[test]
fn every_type_in_both_orders() {
    round_trip([0i8, 1, -1, i8::MIN, i8::MAX, 5]);
    round_trip([0i16, 1, -1, i16::MIN, i16::MAX, 5]);
    round_trip([0i32, 1, -1, i32::MIN, i32::MAX, 5]);
    round_trip([0i64, 1, -1, i64::MIN, i64::MAX, 5]);
    round_trip([7u8, 1, 2, u8::MAX, 4, 5]);
    round_trip([7u16, 1, 2, u16::MAX, 4, 5]);
    round_trip([7u32, 1, 2, u32::MAX, 4, 5]);
    round_trip([7u64, 1, 2, u64::MAX, 4, 5]);
    round_trip([0.5, 1.0, -2.0, 65504.0, 0.0, 3.25].map(f16::from_f32));
    round_trip([0.5f32, 1.0, -2.0, f32::MAX, 0.0, 3.25]);
    round_trip([0.5f64, 1.0, -2.0, f64::MAX, 0.0, 3.25]);
    round_trip([true, false, true, true, false, false].map(Bool::from));
    round_trip([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].map(|x| Complex::new(x, -x)));
    round_trip([1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0].map(|x| Complex::new(x, -x)));
}

#[test]
fn arrays_without_dimensions_and_without_elements() {
    let name = testkit::name("zero");
    let mut one = SharedArray0::<f64>::create(&name, ()).unwrap();
    one.write().unwrap().fill(2.5);
    let opened = SharedArray0::<f64>::open(&name).unwrap();
    assert_eq!(opened.read().unwrap()[()], 2.5);
    assert_eq!(opened.len(), 1);
    assert_eq!(DynArray::open(&name).unwrap().values().unwrap()[IxDyn(&[])], Scalar::F64(2.5));

    for shape in [[0, 3, 4], [2, 0, 4], [2, 3, 0]] {
        for order in [Order::C, Order::Fortran] {
            let name = testkit::name("empty");
            let mut empty =
                SharedArray3::<Complex<f64>>::options().order(order).create(&name, shape).unwrap();
            assert!(empty.is_empty());
            empty.write().unwrap().fill(Complex::default());
            let opened = SharedArray3::<Complex<f64>>::open(&name).unwrap();
            assert_eq!(opened.shape(), shape);
            assert_eq!(opened.read().unwrap().iter().count(), 0);
            assert!(opened.copy_out().unwrap().is_empty());
            assert!(DynArray::open(&name).unwrap().values().unwrap().is_empty());
        }
    }
}

#[test]
fn another_type_or_rank_is_refused_with_both_named() {
    let name = testkit::name("wrong");
    let _made = SharedArray2::<f32>::create(&name, (3, 4)).unwrap();
    let error = SharedArray2::<f64>::open(&name).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "array {name:?} holds float32 of shape (3, 4), but was opened as float64 of 2 dimensions"
        )
    );
    let error = SharedArray1::<f32>::open(&name).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    let error = SharedArray2::<f32>::open_or_create(&name, (4, 3), SOON).unwrap_err();
    assert!(error.to_string().ends_with("opened as float32 of shape (4, 3)"), "{error}");
    assert_eq!(SharedArray::<f32>::open(&name).unwrap().shape(), [3, 4]);
}

#[test]
fn files_that_are_no_arrays_are_refused() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let name = testkit::name("bad");
    let made = SharedArray1::<u16>::create(&name, 1000).unwrap();
    let path = made.path().unwrap().to_owned();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1000).unwrap();
    let error = DynArray::open(&name).unwrap_err();
    assert!(matches!(error, Error::TooShort { found: 1000, needed: 2128, .. }), "{error}");
    assert!(made.copy_out().is_err(), "a shortened file is an error, not a signal");
    drop(made);

    for content in ["", "hello", "\u{93}NUMPY", "no numpy at all, but long enough for a header"] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = DynArray::open(&name).unwrap_err();
        assert!(matches!(error, Error::NotASegment { .. }), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = DynArray::open(&name).unwrap_err();
    assert!(matches!(error, Error::Absent { .. }), "{error}");
    assert!(matches!(SharedArray1::<u8>::create("../x", 1), Err(Error::BadName { .. })));
}

#[test]
fn sizes_that_cannot_be_had_say_so() {
    let name = testkit::name("huge");
    let error = SharedArray2::<f64>::create(&name, (1 << 22, 1 << 22)).unwrap_err();
    let text = error.to_string();
    let expected = format!("cannot create array {name:?}: 128.0 TiB needed, ");
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.ends_with(" free in /dev/shm"), "{text}");
    let error = SharedArray2::<f64>::create(&name, (usize::MAX, usize::MAX)).unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    let error = SharedArray2::<f64>::create(&name, (0, usize::MAX)).unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    let error = SharedArray1::<u8>::anonymous(1 << 50).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    let rank = vec![1; 65];
    let error = SharedArray::<u8>::create(&name, IxDyn(&rank)).unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
}

#[test]
fn rows_are_written_at_the_same_time() {
    let mut one = SharedArray2::<u32>::anonymous((6, 5)).unwrap();
    let mut two = one.try_clone().unwrap();
    let mut third = one.try_clone().unwrap();
    let mut first = one.write_rows(0..2).unwrap();
    let mut last = two.write_rows(2..6).unwrap();
    assert_eq!((first.dim(), last.dim()), ((2, 5), (4, 5)));
    first.fill(1);
    last.row_mut(3).fill(9);
    assert!(third.try_read().unwrap().is_none(), "rows of it are being written");
    assert!(third.try_write().unwrap().is_none());
    drop(last);
    assert!(third.try_read().unwrap().is_none(), "the first rows still are");
    third.write_rows(2..3).unwrap().fill(2);
    drop(first);
    let read = third.read().unwrap();
    assert_eq!(read.column(0).to_vec(), [1, 1, 2, 0, 0, 9]);
    drop(read);
    // A read guard that was forgotten has no user.
    std::mem::forget(one.read().unwrap());
    one.write_rows(5..6).unwrap().fill(7);
    assert!(two.try_write().unwrap().is_some());

    for rows in [0..0, Range { start: 3, end: 2 }, 5..7, 7..8] {
        let error = one.write_rows(rows).unwrap_err();
        assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    }
    let mut fortran =
        SharedArray2::<u32>::options().order(Order::Fortran).anonymous((2, 3)).unwrap();
    assert!(fortran.write_rows(0..1).is_err());
    assert!(SharedArray0::<u32>::anonymous(()).unwrap().write_rows(0..1).is_err());
    let mut narrow = SharedArray2::<u32>::anonymous((3, 0)).unwrap();
    assert_eq!(narrow.write_rows(1..3).unwrap().dim(), (2, 0));
}

#[test]
fn many_readers_or_one_writer() {
    let name = testkit::name("locks");
    let mut one = SharedArray1::<u64>::create(&name, 8).unwrap();
    let mut two = SharedArray1::<u64>::open(&name).unwrap();
    {
        let first = one.read().unwrap();
        let second = one.read().unwrap();
        let _other = two.read().unwrap();
        drop(first);
        // The readers of one handle are counted: the second still keeps writers out.
        drop(_other);
        assert!(two.try_write().unwrap().is_none());
        drop(second);
        assert!(two.try_write().unwrap().is_some());
    }
    let writing = one.write().unwrap();
    assert!(two.try_read().unwrap().is_none());
    assert!(two.try_write().unwrap().is_none());
    let error = two.read_timeout(SOON).unwrap_err();
    assert!(matches!(error, Error::TimedOut { waited, .. } if waited >= SOON), "{error}");
    assert!(matches!(two.write_timeout(SOON), Err(Error::TimedOut { .. })));
    drop(writing);
    two.write_timeout(SOON).unwrap().fill(7);
    assert_eq!(one.read().unwrap().sum(), 56);

    let clone = one.try_clone().unwrap();
    let writing = one.write().unwrap();
    assert!(clone.try_read().unwrap().is_none(), "a clone has a lock of its own");
    drop(writing);
    assert!(clone.try_read().unwrap().is_some());
}

#[test]
fn a_forgotten_guard_is_replaced_by_the_next() {
    let mut one = SharedArray1::<u8>::anonymous(4).unwrap();
    let other = one.try_clone().unwrap();
    std::mem::forget(one.write().unwrap());
    assert!(other.try_read().unwrap().is_none());
    drop(one.read().unwrap());
    assert!(other.try_read().unwrap().is_some());
    std::mem::forget(one.read().unwrap());
    drop(one.write().unwrap());
    assert!(other.try_read().unwrap().is_some());
    // Of rows, too.
    std::mem::forget(one.write_rows(0..1).unwrap());
    drop(one.write_rows(2..3).unwrap());
    assert!(other.try_read().unwrap().is_some());
    std::mem::forget(one.write().unwrap());
    drop(one.write_rows(2..3).unwrap());
    assert!(other.try_read().unwrap().is_some());
}

#[test]
fn threads_never_see_half_a_write() {
    let mut one = SharedArray1::<u64>::anonymous(512).unwrap();
    let reader = one.try_clone().unwrap();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < 200 {
                        let guard = reader.read().unwrap();
                        let first = guard[0];
                        assert!(guard.iter().all(|&value| value == first));
                        assert!(first >= last, "time went back");
                        last = first;
                        drop(guard);
                        // There is no queue at the lock: readers leave the writer its turn.
                        thread::sleep(Duration::from_micros(300));
                    }
                })
            })
            .collect();
        for round in 1..=200 {
            one.write_timeout(LATE).unwrap().fill(round);
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

fn send<T: serde::Serialize, R: serde::de::DeserializeOwned>(value: &T) -> R {
    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(value).unwrap());
    assert_eq!(parcel.fds().len(), 1);
    transfer::supply(parcel, || postcard::from_bytes(&bytes)).unwrap()
}

#[test]
fn arrays_travel_in_a_message() {
    let name = testkit::name("travel");
    let mut named = SharedArray2::<f32>::options()
        .order(Order::Fortran)
        .create_from(&name, &array![[1.0, 2.0], [3.0, 4.0]])
        .unwrap();
    let anonymous =
        SharedArray2::<f32>::options().anonymous_from(&array![[5.0, 6.0], [7.0, 8.0]]).unwrap();
    assert!(postcard::to_stdvec(&named).is_err(), "outside of a port");

    let got: SharedArray2<f32> = send(&named);
    assert_eq!((got.name(), got.order()), (Some(name.as_str()), Order::Fortran));
    assert_eq!(got.copy_out().unwrap(), array![[1.0, 2.0], [3.0, 4.0]]);
    // The two have locks of their own.
    let writing = named.write().unwrap();
    assert!(got.try_read().unwrap().is_none());
    drop(writing);

    let (mut twice, other): (SharedArray2<f32>, DynArray) = send(&(&anonymous, &anonymous));
    assert_eq!(twice.name(), None);
    twice.write().unwrap()[[0, 0]] = -1.0;
    assert_eq!(anonymous.read().unwrap()[[0, 0]], -1.0);
    assert_eq!(other.to_f64().unwrap()[[0, 0]], -1.0);
    drop((twice, other, anonymous));

    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&named).unwrap());
    let wrong = transfer::supply(parcel, || postcard::from_bytes::<SharedArray2<u8>>(&bytes));
    assert!(wrong.is_err(), "another type");

    // It is found by its descriptor, also when the name is gone, and does not own it.
    let path = named.path().unwrap().to_owned();
    drop(got);
    assert!(path.exists());
    drop(named);
    assert!(!path.exists());
}

#[test]
fn names_stay_and_go_as_asked() {
    let name = testkit::name("life");
    let made = SharedArray1::<u8>::create(&name, 10).unwrap();
    let path = made.path().unwrap().to_owned();
    let opened = SharedArray1::<u8>::open(&name).unwrap();
    let clone = made.try_clone().unwrap();
    assert!(matches!(SharedArray1::<u8>::create(&name, 10), Err(Error::Exists { .. })));
    drop((opened, clone));
    assert!(path.exists(), "only the maker removes it");
    assert!(DynArray::open(&name).unwrap().typed::<u8, ndarray::Ix1>().unwrap().unlink().unwrap());
    assert!(!path.exists());
    drop(made);

    let mut made = SharedArray1::<u8>::create(&name, 10).unwrap();
    made.keep();
    drop(made);
    assert!(path.exists());
    assert!(matches!(SharedArray1::<u8>::create(&name, 10), Err(Error::Stale { .. })));
    assert!(cleanup::stale().unwrap().iter().any(|stale| stale.path == path));
    let options = SharedArray1::<u8>::options().keep(true).replace_stale(true).fill(3);
    let made = options.create(&name, 5).unwrap();
    assert!(cleanup::stale().unwrap().iter().all(|stale| stale.path != path));
    let refused = options.create(&name, 5);
    assert!(matches!(refused, Err(Error::Exists { .. })), "it is in use");
    drop(made);

    let found = cleanup::stale().unwrap();
    let found = found.iter().find(|stale| stale.path == path).unwrap();
    assert_eq!((found.name.as_str(), found.len), (name.as_str(), 128 + 5));
    let opened = SharedArray1::<u8>::open(&name).unwrap();
    assert!(!found.remove().unwrap(), "it is in use again");
    drop(opened);
    assert!(found.remove().unwrap());
    assert!(!path.exists());
}

#[test]
fn either_side_may_come_first() {
    let name = testkit::name("either");
    let error = SharedArray1::<u8>::open_or_wait(&name, SOON).unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| SharedArray1::<u8>::open_or_wait(&name, LATE).unwrap());
        let sides: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    SharedArray1::<u8>::options().fill(9).open_or_create(&name, 5, LATE).unwrap()
                })
            })
            .collect();
        let sides: Vec<_> = sides.into_iter().map(|side| side.join().unwrap()).collect();
        assert_eq!(waiting.join().unwrap().read().unwrap().sum(), 45);
        drop(sides);
    });
    assert!(matches!(DynArray::open(&name), Err(Error::Absent { .. })));
}

fn shape_is_kept<D: Dimension>(shape: impl IntoDimension<Dim = D>) {
    let dim = shape.into_dimension();
    let array = SharedArray::<u32, D>::anonymous(dim.clone()).unwrap();
    assert_eq!(array.raw_dim(), dim);
    assert_eq!(array.read().unwrap().raw_dim(), dim);
    assert_eq!(array.copy_out().unwrap(), Array::zeros(dim));
}

#[test]
fn every_rank() {
    shape_is_kept(());
    shape_is_kept(5);
    shape_is_kept((5, 4));
    shape_is_kept((5, 4, 3));
    shape_is_kept((5, 4, 3, 2));
    shape_is_kept(vec![2, 1, 2, 1, 2, 1, 2, 1]);
}

#[test]
fn a_view_without_a_lock() {
    let mut array = SharedArray1::<u8>::anonymous(3).unwrap();
    // SAFETY: nobody else has this array.
    unsafe { array.view_mut_unlocked() }.fill(4);
    // SAFETY: as before.
    assert_eq!(unsafe { array.view_unlocked() }.sum(), 12);
    array.prefault().unwrap();
}
