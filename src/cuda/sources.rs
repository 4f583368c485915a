//! The text of every file of `kernels/`, to be given to NVRTC from memory.

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../kernels/", $name)))),*] };
}

/// Each file by its name below `kernels/`, and its text.
pub(super) static SOURCES: &[(&str, &str)] = embedded![
    "audio/mel.cu",
    "audio/mel.cuh",
    "audio/mel_backward.cu",
    "audio/mel_coprime.cuh",
    "audio/mel_lanes.cuh",
    "audio/mel_store.cuh",
    "body/few_skinning.cu",
    "body/group_posed_gradient.cu",
    "body/group_skinning.cu",
    "body/kinematic_chain.cu",
    "body/one_slab_skinning.cu",
    "body/pose.cu",
    "body/posed_skinning.cu",
    "body/rodrigues.cu",
    "body/skinning.cu",
    "body/slab_features.cu",
    "body/slab_posed_gradient.cu",
    "body/slab_skinning.cu",
    "body/slab_sums.cu",
    "body/slab_transforms.cu",
    "body/stumpff.cu",
    "common/chain.cuh",
    "common/copy_later.cuh",
    "common/early.cuh",
    "common/float_products.cuh",
    "common/fourier.cuh",
    "common/group.cuh",
    "common/group_products.cuh",
    "common/half_pair.cuh",
    "common/half_products.cuh",
    "common/influences.cuh",
    "common/parts.cuh",
    "common/real25.cuh",
    "common/reduce.cuh",
    "common/rotation.cuh",
    "common/slab.cuh",
    "common/slab_posed_gradient.cuh",
    "common/slab_skinning.cuh",
    "common/slab_tiles.cuh",
    "face/solver.cu",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::SOURCES;

    #[test]
    fn every_file_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let folders = fs::read_dir(&root).expect("kernels/ is part of the package");
        let files = folders.flat_map(|folder| fs::read_dir(folder.expect("listed").path()).expect("a folder"));
        let found: BTreeSet<String> = files
            .map(|file| file.expect("listed").path().strip_prefix(&root).expect("below kernels/").display().to_string())
            .collect();
        assert_eq!(found, SOURCES.iter().map(|(name, _)| (*name).to_string()).collect());
    }
}
