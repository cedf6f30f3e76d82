//! The programs of the tutorial are in `src/bin`, one for each step; the book is in `book`.
