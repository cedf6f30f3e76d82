//! The order of nodes, and the cycles that have none.

/// Gives the nodes so that each stands behind those that lead to it, or the nodes of one cycle, in
/// the direction of its edges.
pub(super) fn order(nodes: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Vec<usize>> {
    let mut before = vec![0_usize; nodes];
    let mut after = vec![Vec::new(); nodes];
    for &(from, to) in edges {
        before[to] += 1;
        after[from].push(to);
    }
    let mut order: Vec<usize> = (0..nodes).filter(|&node| before[node] == 0).collect();
    let mut done = 0;
    while let Some(&node) = order.get(done) {
        done += 1;
        for &to in &after[node] {
            before[to] -= 1;
            if before[to] == 0 {
                order.push(to);
            }
        }
    }
    if order.len() == nodes { Ok(order) } else { Err(one_cycle(&before, edges)) }
}

/// The ways between nodes.
pub(super) struct Ways {
    /// Those that follow each node, and those that lead to it.
    after: Vec<Vec<usize>>,
    before: Vec<Vec<usize>>,
}

impl Ways {
    pub(super) fn new(nodes: usize, edges: &[(usize, usize)]) -> Ways {
        let mut ways = Ways { after: vec![Vec::new(); nodes], before: vec![Vec::new(); nodes] };
        for &(from, to) in edges {
            ways.after[from].push(to);
            ways.before[to].push(from);
        }
        ways
    }

    /// Whether something leads to a node.
    pub(super) fn lead_to(&self, node: usize) -> bool {
        !self.before[node].is_empty()
    }

    /// The nodes on the ways from one node to another, both included; none if there is no way.
    pub(super) fn between(&self, (from, to): (usize, usize)) -> Vec<usize> {
        let (behind, before) = (reached(&self.after, from), reached(&self.before, to));
        (0..self.after.len()).filter(|&node| behind[node] && before[node]).collect()
    }
}

/// Which nodes are reached from one, itself included, where `next` has those behind each.
fn reached(next: &[Vec<usize>], from: usize) -> Vec<bool> {
    let mut found = vec![false; next.len()];
    let mut left = vec![from];
    while let Some(node) = left.pop() {
        if !std::mem::replace(&mut found[node], true) {
            left.extend(&next[node]);
        }
    }
    found
}

/// Walks back along the edges between nodes that wait, until it is where it was.
fn one_cycle(before: &[usize], edges: &[(usize, usize)]) -> Vec<usize> {
    let waits = |node: usize| before[node] > 0;
    let mut path: Vec<usize> = (0..before.len()).find(|&node| waits(node)).into_iter().collect();
    while let Some(&node) = path.last() {
        // What waits, waits for one that waits.
        let Some(&(from, _)) = edges.iter().find(|&&(from, to)| to == node && waits(from)) else {
            break;
        };
        if let Some(start) = path.iter().position(|&other| other == from) {
            let mut cycle = path.split_off(start);
            cycle.reverse();
            return cycle;
        }
        path.push(from);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_a_diamond() {
        assert_eq!(order(4, &[(0, 2), (0, 1), (2, 3), (1, 3)]), Ok(vec![0, 2, 1, 3]));
        assert_eq!(order(0, &[]), Ok(vec![]));
    }

    #[test]
    fn ways_from_one_to_another() {
        let edges = [(0, 1), (1, 2), (0, 2), (2, 3), (4, 2), (2, 5)];
        let ways = Ways::new(6, &edges);
        assert_eq!(ways.between((0, 3)), [0, 1, 2, 3]);
        assert_eq!(ways.between((3, 0)), [0; 0]);
        assert_eq!(ways.between((5, 5)), [5]);
        assert!(ways.lead_to(5) && !ways.lead_to(4));
    }

    #[test]
    fn the_cycle_and_not_what_hangs_on_it() {
        assert_eq!(order(5, &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)]), Err(vec![2, 3, 1]));
        assert_eq!(order(1, &[(0, 0)]), Err(vec![0]));
    }
}
