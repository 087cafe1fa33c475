//! Draws `results/<subject>.svg` anew: `draw core`.

fn main() -> std::io::Result<()> {
    std::env::args().skip(1).try_for_each(|subject| poolyard_benches::report::redraw(&subject))
}
