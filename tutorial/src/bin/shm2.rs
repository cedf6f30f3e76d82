//! An array that is made while the process runs, and closed before it ends.

use half::f16;
use msgproc::prelude::*;
use shmring::array::SharedArray2;

#[derive(Default)]
struct Calculator {
    array: Option<SharedArray2<f16>>,
}

#[backend]
impl Calculator {
    fn c__open_array(&mut self, array: SharedArray2<f16>) {
        self.array = Some(array);
    }

    fn c__read_write(&mut self) -> Result<()> {
        let array = self.array.as_mut().ok_or("no array is open")?;
        array.write()?.mapv_inplace(|value| value + f16::from_f32(2.0));
        Ok(())
    }

    fn c__close_array(&mut self) {
        self.array = None;
    }
}

fn main() -> Result<()> {
    let mut calculator = MessageProcess::fork("my-process", |_| Calculator::default())?;

    let mut array = SharedArray2::<f16>::create("my-shm-2", (200, 200))?;
    array.write()?.fill(f16::ONE);
    calculator.open_array(array.try_clone()?).wait()?;
    calculator.read_write().wait()?;
    println!("array values now {:.1}", array.read()?[[0, 0]]);

    calculator.close_array().wait()?;
    drop(array);
    calculator.stop()?;
    println!("main: bye!");
    Ok(())
}
