//! One datagram with its descriptors, in and out.

#![allow(unsafe_code)] // sendmsg and recvmsg: descriptors that come with a message become ours.

use std::{
    io::{self, IoSlice},
    mem::{MaybeUninit, zeroed},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
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

/// Sends one datagram, made of `parts` one after the other. `false` when there is no room now.
pub(super) fn send(
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
    loop {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `header` points to parts and control data that live through the call.
        if unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) } != -1 {
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

/// What one receive gave.
pub(super) enum Datagram {
    /// This many bytes of the buffer, and these descriptors.
    Some { len: usize, fds: Vec<OwnedFd>, cut: bool },
    /// There is none now.
    None,
    /// There will be none: the other side is closed.
    Closed,
}

/// Receives one datagram into `buffer`, up to its capacity; waits for it if asked to. A signal
/// ends the wait with `None`.
///
/// The buffer is not filled with zeros before: it is large, and only what comes is touched.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    wait: bool,
) -> io::Result<Datagram> {
    buffer.clear();
    let mut control = Control([MaybeUninit::uninit(); CONTROL_LEN]);
    let room = buffer.spare_capacity_mut();
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_LEN as _;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let len = loop {
        // SAFETY: `header` points to a buffer and to control room that live through the call and
        // have the lengths it says.
        let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        if len != -1 {
            break len;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Ok(Datagram::None),
            // The other side closed before it had read all. The kernel says so once, and only
            // then gives what that side had sent before.
            io::ErrorKind::ConnectionReset => {}
            _ => return Err(error),
        }
    };
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control room as msg_controllen now says; the macros walk
    // it within those bounds. Each descriptor in it was made for us just now.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_RIGHTS {
                let payload = (*at).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(at).cast::<RawFd>();
                for number in 0..payload / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(number).read_unaligned()));
                }
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
    }
    // SAFETY: the kernel has written that many bytes into the spare capacity; without MSG_TRUNC
    // among the flags it gives never more than the room it was told of.
    unsafe { buffer.set_len((len as usize).min(buffer.capacity())) };
    // We never send an empty datagram, so an empty one is the end.
    if len == 0 {
        return Ok(Datagram::Closed);
    }
    Ok(Datagram::Some { len: len as usize, fds, cut: header.msg_flags & libc::MSG_TRUNC != 0 })
}
