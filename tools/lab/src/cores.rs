//! Which cores a comparison runs on: one for the load, one for the servers.

/// A core for the load and one for the servers, of those that we may use: the first two that do not share a core's
/// execution units, if there are such. With a single core both are the same.
pub fn choose(cores: &[usize]) -> (usize, usize) {
    let load = cores.first().copied().unwrap_or(0);
    let siblings = siblings(load);
    let other = cores.iter().skip(1).find(|c| !siblings.contains(c)).or(cores.get(1));
    (load, other.copied().unwrap_or(load))
}

/// Hardware threads of the same core.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    parse(std::fs::read_to_string(path).unwrap_or_default().trim())
}

/// The kernel's lists: `0,2` or `0-3`. Empty if it is none.
fn parse(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = list.split(',').map(range).collect();
    ranges.unwrap_or_default().into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_and_the_servers_share_a_core_only_if_there_is_one() {
        assert_eq!(choose(&[5]), (5, 5));
        let (load, server) = choose(&sys::thread::allowed_cores().unwrap());
        assert_eq!(load == server, sys::thread::allowed_cores().unwrap().len() == 1);
    }

    #[test]
    fn the_kernels_lists_are_read() {
        assert_eq!(parse("0,4-6"), [0, 4, 5, 6]);
        assert_eq!(parse(""), [0usize; 0]);
        assert_eq!(parse("0,x"), [0usize; 0]);
    }
}
