"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);

// ---- Figures: Plotly draws them, the stylesheet's colours of the moment ink them.

const figures = read("figures");

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--rule"), zerolinecolor: colour("--rule"), linecolor: colour("--rule") };
  return {
    ...layout,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--soft") },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
  };
}

function drawFigures() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = figures[place.dataset.figure];
    Plotly.react(place, data, themed(layout), { responsive: true, displayModeBar: false });
  }
}

drawFigures();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawFigures);
