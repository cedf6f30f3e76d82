//! iceoryx2: a publisher and a subscriber each way; with its event, a notification for each message.

use std::hint::spin_loop;

use iceoryx2::{
    node::Node,
    port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber},
    prelude::*,
};

use super::{
    pair::Result,
    system::{Rx, System, Tx},
};

/// Made in each process: a node does not survive a fork.
pub(crate) struct Polling {
    len: usize,
    run: u32,
}

/// With its event, so that the receiver sleeps.
pub(crate) struct Event(Polling);

pub(crate) struct IceTx {
    publisher: Publisher<ipc::Service, [u8], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    len: usize,
    _node: Node<ipc::Service>,
}

pub(crate) struct IceRx {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    listener: Option<Listener<ipc::Service>>,
    _node: Node<ipc::Service>,
}

impl Polling {
    fn node(&self) -> Result<Node<ipc::Service>> {
        set_log_level(LogLevel::Error);
        Ok(NodeBuilder::new().create::<ipc::Service>()?)
    }

    fn name(&self, way: usize) -> Result<ServiceName> {
        Ok(format!("shmring-compare-{}-{}-{way}", self.run, self.len).as_str().try_into()?)
    }

    fn tx(&self, way: usize, event: bool) -> Result<IceTx> {
        let node = self.node()?;
        let service = node
            .service_builder(&self.name(way)?)
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(8)
            .open_or_create()?;
        let publisher = service.publisher_builder().initial_max_slice_len(self.len).create()?;
        let notifier = if event {
            let service = node.service_builder(&self.name(way)?).event().open_or_create()?;
            Some(service.notifier_builder().create()?)
        } else {
            None
        };
        Ok(IceTx { publisher, notifier, len: self.len, _node: node })
    }

    fn rx(&self, way: usize, event: bool) -> Result<IceRx> {
        let node = self.node()?;
        let service = node
            .service_builder(&self.name(way)?)
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(8)
            .open_or_create()?;
        let subscriber = service.subscriber_builder().create()?;
        let listener = if event {
            let service = node.service_builder(&self.name(way)?).event().open_or_create()?;
            Some(service.listener_builder().create()?)
        } else {
            None
        };
        Ok(IceRx { subscriber, listener, _node: node })
    }
}

impl System for Polling {
    type Tx = IceTx;
    type Rx = IceRx;

    fn new(len: usize) -> Result<Polling> {
        Ok(Polling { len, run: std::process::id() })
    }

    fn tx(&self, way: usize) -> Result<IceTx> {
        self.tx(way, false)
    }

    fn rx(&self, way: usize) -> Result<IceRx> {
        self.rx(way, false)
    }
}

impl System for Event {
    type Tx = IceTx;
    type Rx = IceRx;

    fn new(len: usize) -> Result<Event> {
        Ok(Event(Polling::new(len)?))
    }

    fn tx(&self, way: usize) -> Result<IceTx> {
        self.0.tx(way, true)
    }

    fn rx(&self, way: usize) -> Result<IceRx> {
        self.0.rx(way, true)
    }
}

impl Tx for IceTx {
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        loop {
            let sample = self.publisher.loan_slice_uninit(self.len)?;
            // SAFETY: bytes may hold anything, and they are written before they are read.
            let mut sample = unsafe { sample.assume_init() };
            fill(sample.payload_mut());
            // Waits inside while the receiver's buffer is full; 0 before it has subscribed.
            if sample.send()? > 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }
}

impl Rx for IceRx {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                read(sample.payload());
                return Ok(());
            }
            match &self.listener {
                Some(listener) => {
                    listener.blocking_wait(|_| ())?;
                }
                None => spin_loop(),
            }
        }
    }
}
