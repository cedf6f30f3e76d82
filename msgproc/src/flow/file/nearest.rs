//! What somebody meant who wrote a name that is not known.

/// What is longer than this, in bytes, is no slip of anything: to compare takes the product of lengths.
const LONGEST: usize = 100;

/// The known name that is nearest to `name`, if one is near enough to be a slip.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    let len = name.chars().count();
    // Of a name with every letter replaced, nothing is left that was meant.
    let far = (1 + len / 3).min(len.saturating_sub(1));
    let short = known.into_iter().filter(|known| known.len() <= LONGEST);
    let distances = short.map(|known| (distance(&name, &known.to_lowercase()), known));
    distances.filter(|&(distance, _)| distance <= far).min().map(|(_, known)| known)
}

/// How many characters are to be added, left out, replaced or swapped with their neighbour.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let mut before_last = vec![0; two.len() + 1];
    let mut last: Vec<usize> = (0..=two.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i; two.len() + 1];
        for j in 1..=two.len() {
            let replaced = last[j - 1] + usize::from(one[i - 1] != two[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found() {
        let known = ["camera", "view", "analyzer 1"];
        assert_eq!(nearest("camrea", known), Some("camera"));
        assert_eq!(nearest("View", known), Some("view"));
        assert_eq!(nearest("analyser 1", known), Some("analyzer 1"));
        assert_eq!(nearest("microphone", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("b", ["a", "bb"]), None);
        assert_eq!(nearest("ac", ["ab"]), Some("ab"));
        assert_eq!(nearest(&"a".repeat(101), [&*"a".repeat(100)]), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
