//! The pieces of the hot path, timed: `cargo bench -p brightwire-bench`. What CI compares are instruction counts of the
//! same pieces (`brightwire-bench icount`); times are for people, on a quiet machine.

use std::time::Instant;

use brightwire_bench::hot::PIECES;
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn pieces(criterion: &mut Criterion) {
    for piece in &PIECES {
        let mut run = (piece.prepare)();
        criterion.bench_function(piece.name, |bencher| {
            bencher.iter_custom(|operations| {
                let start = Instant::now();
                run(operations);
                start.elapsed()
            });
        });
    }
}

criterion_group!(hot_path, pieces);
criterion_main!(hot_path);
