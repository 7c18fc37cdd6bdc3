// What a mouse, a finger and the arrow keys ask of the charts, and the button that copies a command. The page is whole without it.
for (const chart of document.querySelectorAll(".chart")) {
  const plot = chart.querySelector(".plot"), told = chart.querySelector(".told");
  const lines = JSON.parse(chart.querySelector("script").textContent), hidden = new Set();
  let line = -1, point = 0;

  function tell(nextLine, nextPoint) {
    [line, point] = [nextLine, nextPoint];
    const [x, y, words] = lines[line].at[point];
    told.textContent = words;
    told.style.borderColor = lines[line].colour;
    told.style.left = told.style.right = told.style.top = told.style.bottom = "";
    told.style[x < 0.5 ? "left" : "right"] = `calc(${100 * (x < 0.5 ? x : 1 - x)}% + 10px)`;
    told.style[y < 0.5 ? "top" : "bottom"] = `calc(${100 * (y < 0.5 ? y : 1 - y)}% + 10px)`;
    told.classList.add("on");
  }
  const hush = () => told.classList.remove("on");

  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect();
    let nearest = 60 ** 2, found = null;
    lines.forEach((one, k) => hidden.has(one.group) || one.at.forEach(([x, y], j) => {
      const far = (box.left + x * box.width - event.clientX) ** 2 + (box.top + y * box.height - event.clientY) ** 2;
      if (far < nearest) [nearest, found] = [far, [k, j]];
    }));
    found ? tell(...found) : hush();
  });
  plot.addEventListener("pointerleave", hush);
  chart.addEventListener("blur", hush);
  chart.addEventListener("keydown", event => {
    if (event.target !== chart) return;
    const across = { ArrowRight: 1, ArrowLeft: -1 }[event.key] || 0, along = { ArrowDown: 1, ArrowUp: -1 }[event.key] || 0;
    if (event.key === "Escape") hush();
    const shown = lines.map((_, k) => k).filter(k => !hidden.has(lines[k].group));
    if (!(across || along) || !shown.length) return;
    event.preventDefault();
    const place = shown.indexOf(line), isNew = place < 0;
    const next = isNew ? shown[0] : shown[(place + along + shown.length) % shown.length];
    const last = lines[next].at.length - 1;
    tell(next, isNew ? 0 : Math.min(Math.max(point + across, 0), last));
  });
  for (const button of chart.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      const group = Number(button.dataset.group), goes = !hidden.delete(group);
      if (goes) hidden.add(group);
      button.setAttribute("aria-pressed", String(!goes));
      for (const part of plot.querySelectorAll(`[data-group="${group}"]`)) part.classList.toggle("out", goes);
      hush();
    });
}
for (const button of document.querySelectorAll(".command button"))
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    try { await navigator.clipboard.writeText(code.textContent); } catch { document.execCommand("copy"); }
    button.textContent = "copied";
  });
