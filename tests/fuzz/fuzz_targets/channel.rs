//! A datagram of a control channel; the first byte says how much of it comes aside.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((aside, datagram)) = data.split_first() else { return };
    let aside = (*aside as usize).min(datagram.len());
    let (datagram, aside) = datagram.split_at(datagram.len() - aside);
    msgproc::__private::take_apart(datagram.to_vec(), aside);
});
