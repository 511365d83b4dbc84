// Reads a flowchart from standard input by Mermaid itself, and prints what it has found as JSON: labels and edges by label.
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import("mermaid");

const text = readFileSync(0, "utf8");
await mermaid.parse(text);
const diagram = await mermaid.mermaidAPI.getDiagramFromText(text);
// Entities are kept in a form of their own until the picture is made.
const shown = (label) => {
  const html = label.replaceAll("ﬂ°°", "&#").replaceAll("ﬂ°", "&").replaceAll("¶ß", ";");
  const element = document.createElement("div");
  element.innerHTML = html;
  return element.textContent;
};
const label = new Map();
for (const node of diagram.db.getVertices().values()) label.set(node.id, shown(node.text));
const edges = diagram.db.getEdges().map((edge) => [label.get(edge.start), label.get(edge.end)]);
console.log(JSON.stringify({ labels: [...label.values()], edges }));
