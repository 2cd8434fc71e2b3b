import { render } from "preact";
import { Flows } from "./page";
import { begin } from "./state";

const root = document.getElementById("flows");
if (root === null) throw new Error("the page has no place for the flows");
render(<Flows />, root);
begin();
