//! An array in shared memory that exists before the process does.

use msgproc::prelude::*;
use shmring::array::SharedArray2;

#[derive(Default)]
struct Calculator {
    array: Option<SharedArray2<f64>>,
}

#[backend]
impl Calculator {
    // Runs in the backend, before its first command.
    fn pre_run(&mut self, _ctx: &mut Context) -> Result<()> {
        self.array = Some(SharedArray2::open("my-shm-1")?);
        Ok(())
    }

    fn c__read_write(&mut self) -> Result<()> {
        let array = self.array.as_mut().ok_or("there is no array")?;
        array.write()?.mapv_inplace(|value| value + 2.0);
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut array = SharedArray2::<f64>::create("my-shm-1", (100, 100))?;
    array.write()?.fill(1.0);

    let mut calculator = MessageProcess::fork("my-process", |_| Calculator::default())?;
    calculator.read_write().wait()?;
    println!("array values now {:.1}", array.read()?[[0, 0]]);
    calculator.stop()
}
