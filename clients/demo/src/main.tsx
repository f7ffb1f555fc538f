/** Starts the page. StrictMode stays on in what is built: the hooks are made for it. */

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import "./styles/base.css";
import "./styles/board.css";
import "./styles/status.css";
import "./styles/system.css";
import "./styles/panels.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
