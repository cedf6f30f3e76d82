//! Arrays whose rows several workers share: the same function for each row.
//!
//! Nothing of the arrays is sent. A worker is told from which row to which, and reads and writes
//! there: the input lies in memory that all see, as threads or as copies of this program, and the
//! output is one shared array, of which each locks the rows that it writes.

use std::{ops::Range, sync::Arc};

use ndarray::{ArcArray, ArrayView, ArrayViewMut, Axis, RemoveAxis};
use shmring::array::{Element, SharedArray};

use super::{
    error::{Error, Result},
    farm::Farm,
    node::{Cause, Flow, Node, WorkerInfo},
    outlet::Outlet,
    pipeline::Pipeline,
    placement::Place,
    report::Report,
};

/// How many blocks each worker gets of the rows, if all are as fast: so that one that is slower
/// gets fewer.
const BLOCKS: usize = 16;

/// A block of rows: where it begins and ends.
type Rows = (usize, usize);

/// Makes each row of an array out of the row with the same number of another one, on several
/// workers.
///
/// An owned array is an [`ArcArray`] by `into_shared`, which copies nothing. The report's node is
/// called `rows`, and its items are blocks of rows.
///
/// ```
/// use msgproc::flow::{Process, par};
/// use ndarray::Array2;
/// use shmring::array::SharedArray1;
///
/// let input = Array2::from_shape_fn((1000, 64), |(row, _)| row as f64).into_shared();
/// let mut means = SharedArray1::<f64>::anonymous(1000)?;
/// par::map_rows(&input, &mut means, Process, 2, |row, mut mean| mean.fill(row.sum() / 64.0))?;
/// assert_eq!(means.read()?[500], 500.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Graph`] when the two have not as many rows, or the rows of the output do not lie one
/// behind the other (Fortran's order, no axes), and those of [`Graph::run`](super::Graph::run). What
/// was written before an error stays.
pub fn map_rows<A, B, D, E, P, F>(
    input: &ArcArray<A, D>,
    output: &mut SharedArray<B, E>,
    place: P,
    workers: usize,
    function: F,
) -> Result<Report>
where
    A: Send + Sync + 'static,
    B: Element + Send + Sync + 'static,
    D: RemoveAxis + 'static,
    E: RemoveAxis + 'static,
    P: Place<Rows> + Place<()> + Send + 'static,
    F: Fn(ArrayView<'_, A, D::Smaller>, ArrayViewMut<'_, B, E::Smaller>) + Send + Sync + 'static,
{
    let (rows, others) = (input.shape().first(), output.shape().first());
    if rows != others {
        return Err(Error::graph(format!(
            "an array of shape {:?} has not as many rows as one of shape {:?}",
            input.shape(),
            output.shape()
        )));
    }
    let input = input.clone();
    for_each_row(output, place, workers, move |index, row| {
        function(input.index_axis(Axis(0), index), row);
    })
}

/// Calls a function with each row of an array, and its number, on several workers.
///
/// ```
/// use msgproc::flow::{Thread, par};
/// use shmring::array::SharedArray2;
///
/// let mut table = SharedArray2::<u32>::anonymous((12, 12))?;
/// par::for_each_row(&mut table, Thread, 2, |row, mut cells| {
///     cells.indexed_iter_mut().for_each(|(column, cell)| *cell = (row * column) as u32);
/// })?;
/// assert_eq!(table.read()?[[7, 8]], 56);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As those of [`map_rows`].
pub fn for_each_row<T, D, P, F>(
    array: &mut SharedArray<T, D>,
    place: P,
    workers: usize,
    function: F,
) -> Result<Report>
where
    T: Element + Send + Sync + 'static,
    D: RemoveAxis + 'static,
    P: Place<Rows> + Place<()> + Send + 'static,
    F: Fn(usize, ArrayViewMut<'_, T, D::Smaller>) + Send + Sync + 'static,
{
    let Some(&rows) = array.shape().first() else {
        return Err(Error::graph("an array without axes has no rows"));
    };
    if array.order() != shmring::array::Order::C {
        return Err(Error::graph(
            "rows of an array in Fortran's order do not lie together: make it in C's order",
        ));
    }
    let clone = array.try_clone().map_err(Error::start("the array in each process"))?;
    let (array, function) = (Arc::new(clone), Arc::new(function));
    let blocks = blocks(rows, workers);
    let farm = Farm::new("rows", place, move |_: &WorkerInfo| RowsNode {
        shared: array.clone(),
        own: None,
        function: function.clone(),
    });
    Pipeline::from(blocks).part(farm.workers(workers)).run()
}

/// Cuts rows into blocks.
fn blocks(rows: usize, workers: usize) -> impl Iterator<Item = Rows> + Send {
    let len = rows.div_ceil(workers.max(1) * BLOCKS).max(1);
    (0..rows).step_by(len).map(move |start| (start, rows.min(start + len)))
}

/// Handles blocks of rows.
struct RowsNode<T, D, F> {
    shared: Arc<SharedArray<T, D>>,
    /// A handle of its own, for locks belong to handles.
    own: Option<SharedArray<T, D>>,
    function: Arc<F>,
}

impl<T, D, F> Node for RowsNode<T, D, F>
where
    T: Element + Send + Sync + 'static,
    D: RemoveAxis + 'static,
    F: Fn(usize, ArrayViewMut<'_, T, D::Smaller>) + 'static,
{
    type In = Rows;
    type Out = ();

    fn svc_init(&mut self, _: &WorkerInfo) -> Result<(), Cause> {
        self.own = Some(self.shared.try_clone()?);
        Ok(())
    }

    fn svc(&mut self, (start, end): Rows, _: &mut Outlet<()>) -> Result<Flow, Cause> {
        let rows: Range<usize> = start..end;
        let own = self.own.as_mut().ok_or("it has no handle of the array")?;
        let mut guard = own.write_rows(rows.clone())?;
        for (index, row) in rows.zip(guard.axis_iter_mut(Axis(0))) {
            (self.function)(index, row);
        }
        Ok(Flow::GoOn)
    }
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn all_rows_are_in_one_block_each() {
        for rows in [0, 1, 2, 31, 32, 33, 1000] {
            for workers in [1, 2, 7] {
                let blocks: Vec<_> = blocks(rows, workers).collect();
                let all: Vec<usize> = blocks.iter().flat_map(|(start, end)| *start..*end).collect();
                assert_eq!(all, (0..rows).collect::<Vec<_>>());
                assert!(blocks.len() <= workers * super::BLOCKS);
                assert!(blocks.iter().all(|(start, end)| start < end));
            }
        }
    }
}
