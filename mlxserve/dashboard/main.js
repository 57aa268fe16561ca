// Puts the page together.
import { get, isKey } from "./api.js";
import { startChat } from "./chat/chat.js";
import { startCluster } from "./cluster.js";
import { startConnect } from "./connect.js";
import { onKey, startKeys } from "./keys.js";
import { askNow, startPulse, watch } from "./pulse.js";
import { startRouter } from "./router.js";
import { onServer } from "./server.js";
import { startTheme } from "./theme.js";
import { showTop } from "./top.js";
import { startTraffic } from "./traffic.js";

const views = { cluster: startCluster(), traffic: startTraffic(), chat: startChat(), connect: startConnect() };
let shown = null;

const show = () => {
  showTop();
  shown?.show();
};

startTheme(() => views.traffic.repaint());
startKeys(isKey);
onServer(show);
onKey(() => {
  askNow();
  show();
});
startRouter((section, rest) => {
  if (shown !== views[section]) shown?.leave?.();
  shown = views[section];
  watch(section, section === "traffic" && rest === "day");
  shown.arrive?.(rest);
  show();
});
get("/v1/models").catch(() => {}); // tells whether a key is needed
startPulse();
