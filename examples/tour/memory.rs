//! What a process costs in memory.

/// The proportional share of a process, in bytes: pages that it shares with others count by their
/// share. `None` where the system does not tell.
pub(crate) fn proportional(pid: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kibibytes = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = kibibytes.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The mean over processes of one kind.
pub(crate) fn proportional_mean(pids: &[u32]) -> Option<u64> {
    let shares: Option<Vec<u64>> = pids.iter().map(|&pid| proportional(pid)).collect();
    let shares = shares?;
    shares.iter().sum::<u64>().checked_div(shares.len() as u64)
}

/// The share of a process and of all that it has started.
pub(crate) fn proportional_tree(pid: u32) -> Option<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children =
        tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        children.flat_map(|pids| pids.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect();
    // One that ends meanwhile has no share.
    let below: u64 = children.into_iter().filter_map(proportional_tree).sum();
    Some(proportional(pid)? + below)
}

/// Mebibytes with one decimal, or a dash.
pub(crate) fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or("-".into(), |bytes| format!("{:.1} MiB", bytes as f64 / 1048576.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_share_and_one_that_does_not_exist_has_none() {
        assert!(proportional(std::process::id()).is_some_and(|bytes| bytes > 4096));
        assert_eq!(proportional(u32::MAX), None);
    }
}
