//! How [`PoolConfig`](crate::PoolConfig) is written: times as `"30s"`, no limit as `"unlimited"`, no
//! time as `"never"`, what follows another option as `"auto"`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

const UNLIMITED: &str = "unlimited";
const NEVER: &str = "never";
const AUTO: &str = "auto";

/// Reads a number, or one of these words.
struct Words(&'static [&'static str]);

enum Read {
    Number(u64),
    Word(&'static str),
}

impl Visitor<'_> for Words {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number or one of {:?}", self.0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Read, E> {
        Ok(Read::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Read, E> {
        u64::try_from(number).map(Read::Number).map_err(|_| E::custom(format!("{number} is negative")))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Read, E> {
        let known = self.0.iter().find(|known| **known == word);
        known.map(|known| Read::Word(known)).ok_or_else(|| E::unknown_variant(word, self.0))
    }
}

fn read<'de, D: Deserializer<'de>>(from: D, words: &'static [&'static str]) -> Result<Read, D::Error> {
    from.deserialize_any(Words(words))
}

fn size<E: Error>(number: u64) -> Result<usize, E> {
    usize::try_from(number).map_err(|_| E::custom(format!("{number} is too large")))
}

/// A limit: a number, or `"unlimited"`.
pub(crate) mod limit {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(limit: &usize, to: S) -> Result<S::Ok, S::Error> {
        match *limit {
            usize::MAX => to.serialize_str(UNLIMITED),
            limit => to.serialize_u64(limit as u64),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        match read(from, &[UNLIMITED])? {
            Read::Number(number) => size(number),
            Read::Word(_) => Ok(usize::MAX),
        }
    }
}

/// A limit that follows another one: a number, `"unlimited"`, or `"auto"`.
pub(crate) mod optional_limit {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(limit: &Option<usize>, to: S) -> Result<S::Ok, S::Error> {
        match limit {
            None => to.serialize_str(AUTO),
            Some(limit) => super::limit::serialize(limit, to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
        match read(from, &[UNLIMITED, AUTO])? {
            Read::Number(number) => size(number).map(Some),
            Read::Word(AUTO) => Ok(None),
            Read::Word(_) => Ok(Some(usize::MAX)),
        }
    }
}

/// A large number, or `"unlimited"`.
pub(crate) mod number {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        match *number {
            u64::MAX => to.serialize_str(UNLIMITED),
            number => to.serialize_u64(number),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        match read(from, &[UNLIMITED])? {
            Read::Number(number) => Ok(number),
            Read::Word(_) => Ok(u64::MAX),
        }
    }
}

/// How often: a number, or `"never"`.
pub(crate) mod optional_count {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(count: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match count {
            None => to.serialize_str(NEVER),
            Some(count) => to.serialize_u64(*count),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        match read(from, &[NEVER])? {
            Read::Number(number) => Ok(Some(number)),
            Read::Word(_) => Ok(None),
        }
    }
}

/// A time, as in `"1m 30s"`.
pub(crate) mod span {
    pub(crate) use humantime_serde::{deserialize, serialize};
}

/// A time, as in `"1m 30s"`, or `"never"`; for `hedge_after`, `"auto"` means the same.
pub(crate) mod optional_span {
    use super::*;

    struct Span;

    impl Visitor<'_> for Span {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time such as \"30s\", or \"never\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<Duration>, E> {
            if text == NEVER || text == AUTO {
                return Ok(None);
            }
            let text = serde::de::value::StrDeserializer::<E>::new(text);
            humantime_serde::deserialize(text).map(Some)
        }
    }

    pub(crate) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            None => to.serialize_str(NEVER),
            Some(span) => humantime_serde::serialize(span, to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        from.deserialize_str(Span)
    }
}

/// A time that follows another option: as in `"1m 30s"`, or `"auto"`.
pub(crate) mod auto_span {
    use super::*;

    struct Span;

    impl Visitor<'_> for Span {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time such as \"30s\", or \"auto\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<Duration>, E> {
            if text == AUTO {
                return Ok(None);
            }
            humantime_serde::deserialize(serde::de::value::StrDeserializer::<E>::new(text)).map(Some)
        }
    }

    pub(crate) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            None => to.serialize_str(AUTO),
            Some(span) => humantime_serde::serialize(span, to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        from.deserialize_str(Span)
    }
}
