//! [`Absent`]: what stands in the place of a backend where its system is not.

use std::error::Error;
use std::fmt;

/// Why a backend is not here, and which one to use instead.
///
/// A program that is built for several systems can name a backend's module everywhere: where the backend
/// cannot be, the module holds nothing but a function `absent` that returns this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Absent {
    /// The backend's feature.
    pub backend: &'static str,
    /// What it needs.
    pub needs: &'static str,
    /// What to use instead on this system.
    pub instead: &'static str,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Absent { backend, needs, instead } = self;
        write!(f, "the backend {backend} needs {needs}, this is {}; {instead}", std::env::consts::OS)
    }
}

impl Error for Absent {}

/// A module that says why a backend is not here.
#[cfg(all(not(target_os = "linux"), any(feature = "docker", feature = "linux-ns", feature = "process")))]
macro_rules! absent {
    ($module:ident, $feature:literal, $needs:literal, $instead:literal) => {
        #[doc = concat!("Not on this system: it needs ", $needs, ". Instead: ", $instead, ".")]
        #[cfg(feature = $feature)]
        pub mod $module {
            /// Why this backend is not here, and which one to use instead.
            pub const fn absent() -> crate::Absent {
                crate::Absent { backend: $feature, needs: $needs, instead: $instead }
            }
        }
    };
}
#[cfg(all(
    not(target_os = "linux"),
    any(feature = "docker", feature = "linux-ns", feature = "process")
))]
pub(crate) use absent;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_backend_its_need_and_the_way_out() {
        let absent = Absent { backend: "linux-ns", needs: "Linux", instead: "run it in a virtual machine" };
        let text = absent.to_string();
        assert!(text.starts_with("the backend linux-ns needs Linux, this is "), "{text}");
        assert!(text.ends_with("; run it in a virtual machine"), "{text}");
    }
}
