use std::collections::{BTreeMap, HashMap};

/// The node types that a program knows, for the check of a file.
///
/// A map from name to [`ClassInfo`] is one.
pub trait Classes {
    /// What is known of the class of this name.
    fn class(&self, name: &str) -> Option<ClassInfo>;

    /// The names of all classes, to suggest one when a name is not known.
    fn names(&self) -> Vec<String>;
}

impl Classes for BTreeMap<String, ClassInfo> {
    fn class(&self, name: &str) -> Option<ClassInfo> {
        self.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

impl Classes for HashMap<String, ClassInfo> {
    fn class(&self, name: &str) -> Option<ClassInfo> {
        self.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// The ports of a node type.
///
/// # Examples
///
/// ```
/// use msgproc::flow::file::ClassInfo;
///
/// let filter = ClassInfo::new().input("in", "Frame").optional_input("mask", "Mask").output("out", "Frame");
/// assert!(!filter.inputs[1].required);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassInfo {
    /// The ports that take items.
    pub inputs: Vec<PortInfo>,
    /// The ports that give items.
    pub outputs: Vec<PortInfo>,
}

/// A port of a node type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// How it is called in connections.
    pub name: String,
    /// The name of its item type; none fits to any.
    pub items: Option<String>,
    /// Whether a node cannot do without it; true only for inputs.
    pub required: bool,
}

impl ClassInfo {
    /// A type without ports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input that must be connected.
    pub fn input(mut self, name: &str, items: &str) -> Self {
        self.inputs.push(PortInfo::new(name, items, true));
        self
    }

    /// Adds an input that a node can do without.
    pub fn optional_input(mut self, name: &str, items: &str) -> Self {
        self.inputs.push(PortInfo::new(name, items, false));
        self
    }

    /// Adds an output.
    pub fn output(mut self, name: &str, items: &str) -> Self {
        self.outputs.push(PortInfo::new(name, items, false));
        self
    }
}

impl PortInfo {
    fn new(name: &str, items: &str, required: bool) -> Self {
        PortInfo { name: name.to_owned(), items: Some(items.to_owned()), required }
    }
}
