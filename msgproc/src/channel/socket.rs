//! One datagram with its descriptors, in and out.

#![allow(unsafe_code)] // sendmsg and recvmsg: descriptors that come with a message become ours.

use std::{
    io::{self, IoSlice},
    mem::{MaybeUninit, zeroed},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr, slice,
};

/// The kernel's SCM_MAX_FD: more descriptors than this do not go with one message.
pub(crate) const MAX_FDS: usize = 253;

/// The longest datagram that is ever sent; also the length of the buffer that receives it.
pub(super) const MAX_DATAGRAM: usize = 208 * 1024;

/// What the kernel needs of the send buffer beside the datagram itself.
const OVERHEAD: usize = 4096;

/// The two ends of a new channel; both are close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: the kernel writes two descriptors into the array.
    let result = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made both descriptors for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// The longest datagram that this socket can send.
#[inline]
pub(super) fn longest_datagram(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut size: libc::c_int = 0;
    let mut len = size_of_val(&size) as libc::socklen_t;
    // SAFETY: `size` and `len` are as long as we say.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw mut size).cast(),
            &raw mut len,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    let buffer = usize::try_from(size).unwrap_or(0);
    Ok(buffer.saturating_sub(OVERHEAD).clamp(2048, MAX_DATAGRAM))
}

/// Room for the control message of `MAX_FDS` descriptors, aligned for its header.
#[repr(align(8))]
struct Control([MaybeUninit<u8>; CONTROL_LEN]);

// SAFETY: CMSG_SPACE only computes.
const CONTROL_LEN: usize =
    unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as u32) as usize };

/// Sends one datagram. `false` when there is no room now.
#[inline]
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<bool> {
    // SAFETY: `bytes` lives through the call and has the length we say.
    until_sent(|flags| unsafe {
        libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
    })
}

/// Sends one datagram, made of `parts` one after the other, with descriptors. `false` when there
/// is no room now.
pub(super) fn send_parts(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<bool> {
    debug_assert!(fds.len() <= MAX_FDS);
    let mut control = Control([MaybeUninit::zeroed(); CONTROL_LEN]);
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len() as _;
    if !fds.is_empty() {
        let payload = size_of_val(fds) as u32;
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: `control` has room for MAX_FDS descriptors and is aligned for cmsghdr, and
        // BorrowedFd has the layout of a raw descriptor.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(payload) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(payload) as _;
            ptr::copy_nonoverlapping(
                fds.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(first),
                payload as usize,
            );
        }
    }
    // SAFETY: `header` points to parts and control data that live through the call.
    until_sent(|flags| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) })
}

#[inline]
fn until_sent(attempt: impl Fn(libc::c_int) -> isize) -> io::Result<bool> {
    loop {
        if attempt(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) != -1 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// The other side can send no more; what it has sent can still be received.
pub(super) fn stop_receiving(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: touches no memory.
    match unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A datagram as it came.
#[derive(Debug)]
pub(super) enum Datagram {
    /// Its bytes, and its descriptors.
    Whole { bytes: Vec<u8>, fds: Vec<OwnedFd> },
    /// It was longer than any that is ever sent.
    Cut,
    /// There will be no more: the other side is closed.
    Closed,
}

/// How many datagrams are received at once, at most.
pub(super) const AT_ONCE: usize = 8;

/// Where the kernel puts one datagram. Not on the stack: that would touch all of its pages, and of
/// a process that has just started each is made at the first touch.
#[repr(C, align(8))]
pub(super) struct Room {
    control: [MaybeUninit<u8>; CONTROL_LEN],
    datagram: [MaybeUninit<u8>; MAX_DATAGRAM],
}

/// Has the room that the next datagram comes to be memory of this process alone, as it is once
/// something was written there.
pub(super) fn make_own(rooms: &mut Vec<Room>) {
    rooms.reserve(AT_ONCE);
    let room = rooms.spare_capacity_mut()[0].as_mut_ptr();
    // SAFETY: the room is memory of ours, in which nothing is kept.
    unsafe { (&raw mut (*room).datagram).cast::<u8>().write_volatile(0) };
}

/// Receives what there is, at most `count` datagrams and `AT_ONCE`, in their order; may wait for
/// the first. Gives none when there is none now, or when a signal has ended the wait.
///
/// `rooms` is where the kernel puts them; each is copied to a `place`, an empty one. They are not
/// filled with zeros before: they are large, and only what comes is touched.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    rooms: &mut Vec<Room>,
    count: usize,
    wait: bool,
    mut place: impl FnMut() -> Vec<u8>,
    mut take: impl FnMut(Datagram),
) -> io::Result<()> {
    rooms.reserve(AT_ONCE);
    let rooms = rooms.spare_capacity_mut();
    // SAFETY: all zeros is a valid iovec.
    let mut parts: [libc::iovec; AT_ONCE] = unsafe { zeroed() };
    // SAFETY: all zeros is a valid mmsghdr.
    let mut headers: [libc::mmsghdr; AT_ONCE] = unsafe { zeroed() };
    let count = count.clamp(1, AT_ONCE);
    let places = rooms.iter_mut().zip(&mut parts).zip(&mut headers);
    for ((room, part), header) in places.take(count) {
        let room = room.as_mut_ptr();
        // SAFETY: the room is memory of ours, of which only the addresses are taken.
        let (control, datagram) = unsafe { (&raw mut (*room).control, &raw mut (*room).datagram) };
        *part = libc::iovec { iov_base: datagram.cast(), iov_len: MAX_DATAGRAM };
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = control.cast();
        header.msg_hdr.msg_controllen = CONTROL_LEN as _;
    }
    let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
    let flags = (flags | libc::MSG_CMSG_CLOEXEC) as _;
    let came = loop {
        // SAFETY: the first `count` headers point to buffers and to control room that live through
        // the call and have the lengths they say; no time is given.
        let came = unsafe {
            let headers = headers.as_mut_ptr();
            libc::recvmmsg(socket.as_raw_fd(), headers, count as _, flags, ptr::null_mut())
        };
        if came != -1 {
            break came as usize;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Ok(()),
            // The other side closed before it had read all. The kernel says so once, and only
            // then gives what that side had sent before.
            io::ErrorKind::ConnectionReset => {}
            _ => return Err(error),
        }
    };
    for (header, part) in headers.iter().zip(&parts).take(came) {
        // SAFETY: the kernel has just filled this header.
        let fds = unsafe { descriptors(&header.msg_hdr) };
        // We never send an empty datagram, so an empty one is the end.
        if header.msg_len == 0 {
            take(Datagram::Closed);
            break;
        }
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            take(Datagram::Cut);
            continue;
        }
        let len = (header.msg_len as usize).min(part.iov_len);
        // SAFETY: the kernel has written that many bytes into this room; without MSG_TRUNC among
        // the flags it gives never more than the room it was told of.
        let came = unsafe { slice::from_raw_parts(part.iov_base.cast::<u8>(), len) };
        let mut bytes = place();
        bytes.extend_from_slice(came);
        take(Datagram::Whole { bytes, fds });
    }
    Ok(())
}

/// The descriptors that came with a datagram.
///
/// # Safety
///
/// The kernel has filled the header, and nobody has taken them yet.
unsafe fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control room as msg_controllen now says; the macros walk
    // it within those bounds. Each descriptor in it was made for us just now.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_RIGHTS {
                let payload = (*at).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(at).cast::<RawFd>();
                for number in 0..payload / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(number).read_unaligned()));
                }
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    fds
}
