//! `cores`: the CPUs of the node, which workload has them alone, and who else may run there.

use super::Context;
use crate::api::ListCoresResponse;
use crate::exit::Exit;
use crate::failure::Result;
use crate::render::cores;
use crate::render::tree::ToNode;
use crate::screen::Format;

/// Shows the CPUs.
pub fn cores(context: &mut Context) -> Result<Exit> {
    let told: ListCoresResponse = context.connect()?.list_cores()?;
    context.screen.answer(
        || told.node(),
        |format| match format {
            Format::Name => cores::numbers(&told),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => cores::drawn(&told),
        },
    )?;
    Ok(Exit::Ok)
}
