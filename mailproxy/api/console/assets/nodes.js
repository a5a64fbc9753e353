// The processes that are this service.

import { get } from "./api.js";
import { h, show, state, table } from "./dom.js";
import { ago, count, time } from "./format.js";
import { follow } from "./live.js";

const COLUMNS = [["Node", "mono"], ["State", ""], ["Machine", "wide"], ["Version", ""], ["Started", "short"], ["Alive until", ""], ["Messages at hand", "count"]];

export function nodesPage(main) {
  const list = h("div", { class: "panel" });
  show(main, h("h1", null, "Nodes"), list);
  return follow(async () => {
    const { nodes } = await get("/v1/nodes");
    show(list, table("Nodes", COLUMNS, nodes.map((node) => [
      node.id.slice(0, 12), state(node.alive ? "alive" : "dead"), node.host, node.version, ago(node.started_at), time(node.alive_until), node.claims === null ? "not counted" : count(node.claims),
    ]), "No node has been heard of yet."));
  }, (problem) => {
    if (problem) show(list, h("p", { class: "problem", role: "alert" }, problem.message));
  });
}
