//! The examples of poolyard; see the files beside this one.
