use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use units::{FLOW_GROUPS, FlowGroupId, GroupSet};

/// A set of flow groups as people and commands write it: `0-15,40`; `-` for none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GroupList(pub GroupSet);

/// Why a text is no list of flow groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListError(String);

impl fmt::Display for GroupListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: flow groups are written as in 0-15,40, and there are {FLOW_GROUPS}, from 0 on", self.0)
    }
}

impl std::error::Error for GroupListError {}

impl fmt::Display for GroupList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        let has = |g: u16| self.0.contains(FlowGroupId(g));
        let (mut at, mut comma) = (0, "");
        while usize::from(at) < FLOW_GROUPS {
            if !has(at) {
                at += 1;
                continue;
            }
            let first = at;
            while has(at) {
                at += 1;
            }
            match at - first {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", at - 1)?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for GroupList {
    type Err = GroupListError;

    fn from_str(text: &str) -> Result<GroupList, GroupListError> {
        let wrong = || GroupListError(text.chars().take(40).collect());
        let mut set = GroupSet::NONE;
        if text.trim() == "-" {
            return Ok(GroupList(set));
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
            let (first, last) = (number(first)?, number(last)?);
            if first > last || usize::from(last) >= FLOW_GROUPS {
                return Err(wrong());
            }
            (first..=last).for_each(|g| set.insert(FlowGroupId(g)));
        }
        Ok(GroupList(set))
    }
}

impl Serialize for GroupList {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupList {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<GroupList, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["-", "0", "127", "0-127", "0-15,40", "1,3,5-6,126-127"] {
            assert_eq!(text.parse::<GroupList>().unwrap().to_string(), text);
        }
        let mixed: GroupList = "40, 2-3,0-2".parse().unwrap();
        assert_eq!((mixed.to_string(), mixed.0.len()), ("0-3,40".into(), 5));
        assert_eq!(serde_json::to_string(&mixed).unwrap(), "\"0-3,40\"");
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["", "128", "3-1", "a", "1,,2", "-1", "1-", "99999999999", "0-128"] {
            let said = text.parse::<GroupList>().unwrap_err().to_string();
            assert!(said.contains("0-15,40"), "{text}: {said}");
        }
    }
}
