/** @file The style of a run's report: light and dark, from a telephone's width up. */

export const reportStyle = `
:root { color-scheme: light dark; --page:#f5f6f8; --card:#fff; --ink:#14171c; --muted:#5d6674; --line:#e2e6eb; --zero:#9aa3b0;
  --blue:#2563eb; --orange:#c2570c; --green:#15803d; --red:#c02626; --ramp-start:#9cc2f5; --ramp-end:#123a86 }
@media (prefers-color-scheme: dark) { :root { --page:#0f1216; --card:#171b21; --ink:#e8ebf0; --muted:#9ba5b3; --line:#2a313b; --zero:#697484;
  --blue:#6ea8ff; --orange:#f0995a; --green:#4cc27a; --red:#f47174; --ramp-start:#2f5c9e; --ramp-end:#c4dcff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.01em } h2 { margin: 0 0 0.4rem; font-size: 1.2rem }
h3 { margin: 1.4rem 0 0.3rem; font-size: 0.95rem } p { margin: 0 0 0.8rem; max-width: 44rem }
header p { color: var(--muted); margin: 0 } section > p, .note { color: var(--muted) } .note { margin-top: 0.8rem; font-size: 0.9rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.2rem 1.3rem; margin-top: 1rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.6rem; margin-top: 1.2rem }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 0.7rem 0.9rem }
.tiles span, .tiles small { display: block; color: var(--muted); font-size: 0.82rem; line-height: 1.35 }
.tiles b { display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.35; font-variant-numeric: tabular-nums; white-space: nowrap }
.verdicts { list-style: none; margin: 0.6rem 0 0; padding: 0 } .verdicts li { border-left: 3px solid var(--mood); padding: 0.1rem 0 0.1rem 0.9rem; margin-top: 0.9rem }
.verdicts b { color: var(--mood) } .verdicts span { color: var(--muted); font-size: 0.85rem; margin-left: 0.3rem } .verdicts p { margin: 0.15rem 0 0; font-size: 0.92rem; max-width: none }
.good { --mood: var(--green) } .bad { --mood: var(--red) } .open { --mood: var(--orange) }
figure { margin: 0.6rem 0 0 } svg { display: block; width: 100%; height: auto; overflow: visible }
svg text { fill: var(--muted); font-size: 11px; font-variant-numeric: tabular-nums } svg path { stroke-width: 2; stroke-linejoin: round }
svg .grid { stroke: var(--line) } svg .zero { stroke: var(--zero) } svg .behind { stroke-width: 1; opacity: 0.35 } svg .band { opacity: 0.14; stroke: none }
figcaption { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; font-size: 0.85rem; color: var(--muted); margin-bottom: 0.4rem }
figcaption i { display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 3px; margin-right: 0.4rem; vertical-align: -0.05rem }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0 1.6rem } .halves { grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)) } .halves svg text { font-size: 20px } .columns h3 { font-weight: 500; font-size: 0.88rem; margin-top: 0.6rem }
.bars { list-style: none; margin: 0.4rem 0 0; padding: 0; font-size: 0.85rem }
.bars li { display: grid; grid-template-columns: 6rem 1fr 3.6rem; gap: 0.7rem; align-items: center; padding: 0.16rem 0 }
.bars span { color: var(--muted); max-width: 13rem } .bars output { text-align: right; font-variant-numeric: tabular-nums }
.bars div { position: relative; height: 0.8rem } .bars div > * { position: absolute } .bars b { top: 0; bottom: 0; border-radius: 3px; opacity: 0.85 }
.bars u { top: 50%; height: 2px; margin-top: -1px; background: var(--ink) } .bars s { top: -1px; bottom: -1px; width: 2px; background: var(--ink) } .bars em { top: -3px; bottom: -3px; width: 1px; background: var(--zero) }
.wide { overflow-x: auto } table { border-collapse: collapse } .figures { width: 100%; font-variant-numeric: tabular-nums } .figures th { text-align: left; font-weight: 500; white-space: nowrap }
.figures td, .figures th { padding: 0.45rem 1rem 0.45rem 0; border-top: 1px solid var(--line); vertical-align: top } .figures tr:first-child th { border: 0; color: var(--muted); font-size: 0.88rem; padding-top: 0 }
.figures small { display: block; color: var(--muted); white-space: nowrap }
.images td { padding: 0 6px 6px 0 } .images th { color: var(--muted); font-weight: 400; font-size: 0.82rem; text-align: left; padding: 0 8px 4px 0; white-space: nowrap }
.images tbody th[scope] { vertical-align: middle; max-width: 7.5rem; white-space: normal; min-width: 4.5rem } .images .label { color: var(--ink); padding-top: 0.6rem; white-space: normal }
.images img { display: block; width: 88px; height: auto; border-radius: 5px; image-rendering: pixelated; outline: 1px solid var(--line); outline-offset: -1px }
dl { margin: 0.5rem 0 0; font-size: 0.92rem } dl div { display: grid; grid-template-columns: 13rem 1fr; gap: 0.2rem 1rem; padding: 0.32rem 0; border-top: 1px solid var(--line) } dl div:first-child { border: 0 }
dt { color: var(--muted) } dd { margin: 0 } summary { cursor: pointer; color: var(--muted) }
@media (max-width: 34rem) { .halves { grid-template-columns: 1fr } .figures td, .figures th { padding-right: 0.6rem } .figures small, .figures th { white-space: normal } main { padding: 1rem 0.7rem 3rem } section { padding: 1rem 0.9rem; border-radius: 10px } h1 { font-size: 1.5rem } .tiles { grid-template-columns: 1fr 1fr }
  .tiles b { font-size: 1.25rem } dl div { grid-template-columns: 1fr; gap: 0 } svg text { font-size: 20px } .images img { width: 72px } .bars li { grid-template-columns: 5rem 1fr 3.2rem; gap: 0.5rem } }
`;
