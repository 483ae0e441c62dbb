"""The look of a report: one style sheet for screens of all widths and for paper.

It knows the class names of the page; no fonts or pictures are fetched.
"""

__all__ = ["STYLE"]

STYLE = """
:root{--ink:#18212c;--soft:#5a6776;--line:#dfe4ea;--wash:#f5f7f9;--ok:#1c62b5;--no:#b4471a}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 22px 60px}
header{border-bottom:3px solid var(--ink);margin-bottom:22px;padding-bottom:10px}
.brand{margin:0;color:var(--soft);font-weight:600;letter-spacing:.02em}
h1{margin:.05em 0 .2em;font-size:2rem;line-height:1.15}
h1:first-letter,h3:first-letter{text-transform:uppercase}
h2{margin:0 0 .6em;font-size:1.25rem}
h3{margin:1.1em 0 .4em;font-size:1rem}
h3 small{color:var(--soft);font-weight:400}
section{margin:34px 0}
p{margin:.4em 0}
header p,.quiet,.legend{color:var(--soft);overflow-wrap:anywhere}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.error{color:var(--no);font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:8px}
.tiles>div{background:var(--wash);border-radius:8px;padding:9px 10px}
.tiles span,.tiles em{display:block;color:var(--soft);font-style:normal;font-size:.82rem}
.tiles b{font-size:1.3rem;font-variant-numeric:tabular-nums}
.tiles small{font-size:.8rem;font-weight:400;margin-left:.25em}
figure{margin:0}
figcaption{color:var(--soft);font-size:.85rem;margin-top:4px}
figcaption b{color:var(--ink)}
img,.none{display:block;width:100%;aspect-ratio:1;object-fit:contain;border:1px solid var(--line);
 border-radius:6px;background:#fff}
.none{display:grid;place-items:center;color:var(--soft);background:var(--wash);font-style:normal;
 font-size:.8rem}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:14px}
.chosen img{border:2px solid var(--ok)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:16px}
.plot{width:100%;height:auto}
.plot text{font-size:12px;fill:var(--soft)}
.plot .t{font-size:14px;font-weight:600;fill:var(--ink)}
.plot .t tspan{font-weight:400;fill:var(--soft)}
.g{stroke:var(--line)}
.l{fill:none;stroke:var(--ok);stroke-width:2}
.ok{fill:var(--ok)}
.no{stroke:var(--no);stroke-width:2.5;fill:none}
.dot{display:inline-block;width:10px;height:10px;border-radius:50%;background:var(--ok)}
.x{color:var(--no);font-style:normal;font-weight:700;margin-left:1em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px 6px 0;border-bottom:1px solid var(--line);text-align:left;
 white-space:nowrap}
td:last-child,th:last-child{white-space:normal;padding-right:0}
th{color:var(--soft);font-size:.82rem;font-weight:600}
.yes{color:var(--ok)}
.back{color:var(--no)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:14px}
.card p{display:flex;align-items:center;gap:10px;margin:0 0 4px}
.card>div{display:grid;grid-template-columns:repeat(3,1fr);gap:4px}
.card small{color:var(--soft);white-space:nowrap}
.weight{flex:1;height:6px;border-radius:3px;background:var(--line);overflow:hidden}
.weight i{display:block;height:100%;background:var(--ok)}
.trust{list-style:none;display:flex;flex-wrap:wrap;gap:8px;margin:0;padding:0;font-size:.78rem}
.trust li{width:38px;text-align:center;color:var(--soft)}
.trust span{color:var(--ink);font-weight:600}
.trust i{display:flex;align-items:flex-end;height:44px;background:var(--wash);border-radius:4px;
 overflow:hidden}
.trust u{display:block;width:100%;background:var(--ok)}
.bar{display:block;width:100%;height:22px;border-radius:5px;overflow:hidden}
.c0{fill:#1c62b5;background:#1c62b5}.c1{fill:#e08a2c;background:#e08a2c}
.c2{fill:#3d8f6a;background:#3d8f6a}.c3{fill:#8a62b3;background:#8a62b3}
.c4{fill:#c25b5b;background:#c25b5b}.c5{fill:#5f7d95;background:#5f7d95}
.c6{fill:#b9a235;background:#b9a235}.c7{fill:#7a6a58;background:#7a6a58}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:6px 0;padding:0;
 font-size:.86rem}
ul.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}
ul.legend b{color:var(--ink);font-weight:600}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:0;font-size:.9rem}
.params{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:0 26px}
.facts dt{color:var(--soft)}
.facts dd{margin:0;overflow-wrap:anywhere}
.notes{margin:.6em 0 0;padding-left:1.2em;overflow-wrap:anywhere}
@media (max-width:520px){main{padding:18px 14px 40px}h1{font-size:1.6rem}
 .figures{grid-template-columns:1fr 1fr}.cards,.plots{grid-template-columns:1fr}
 .facts{grid-template-columns:1fr}.facts dd{margin-bottom:6px}}
@media print{@page{margin:14mm}body{font-size:10pt}section{margin:20px 0}
 .figures{grid-template-columns:repeat(5,1fr)}.cards{grid-template-columns:repeat(3,1fr)}
 main{max-width:none;padding:0}
 .card,figure,.job,tr,.plot{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}
 th,td{padding-right:6px;font-size:8.5pt;white-space:normal}
 *{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
