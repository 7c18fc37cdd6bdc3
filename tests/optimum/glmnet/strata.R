# Writes what test_strata.py compares with: rows of glmnet's CoxExample, standardised, with times rounded up so that there
# are ties and with five strata; paths on them by stratifySurv, a line for each λ with alpha, lambda and the weights; what
# cv.glmnet makes of them over five folds; and coxph's weights with strata(), the ties of Efron, then those of Breslow, with
# the hazards that survfit makes of them.
# Rscript strata.R FOLDER
for (package in c("glmnet", "survival")) if (!requireNamespace(package, quietly = TRUE)) quit(status = 3)
folder <- commandArgs(trailingOnly = TRUE)[1]
data(CoxExample, package = "glmnet")
x <- CoxExample$x[1:150, 1:8]
x <- scale(x, scale = apply(x, 2, function(column) sqrt(mean((column - mean(column))^2))))
time <- ceiling(CoxExample$y[1:150, "time"] * 3) / 3
event <- CoxExample$y[1:150, "status"]
stratum <- 1 + (1:150 * 7) %% 5
foldid <- 1 + 1:150 %/% 5 %% 5
y <- glmnet::stratifySurv(survival::Surv(time, event), stratum)

write_numbers <- function(numbers, name) {
  file <- gzfile(file.path(folder, paste0(name, ".csv.gz")), "w")
  for (i in seq_len(nrow(numbers))) cat(sprintf("%.17g", numbers[i, ]), sep = c(rep(",", ncol(numbers) - 1), "\n"), file = file)
  close(file)
}

# Strata are solved by cox.path, whose Newton steps stop by a tolerance of their own.
glmnet::glmnet.control(epsnr = 1e-13, mxitnr = 100)
same <- list(x, y, family = "cox", standardize = FALSE, thresh = 1e-14, maxit = 1e7)
paths <- lapply(c(1, 0.5), function(alpha) {
  fit <- do.call(glmnet::glmnet, c(same, alpha = alpha, nlambda = 10))
  cbind(alpha, fit$lambda, t(as.matrix(coef(fit))))
})
folds <- do.call(glmnet::cv.glmnet, c(same, list(lambda = paths[[1]][1:3, 2], foldid = foldid)))
write_numbers(cbind(x, time, event, stratum, foldid), "strata_rows")
write_numbers(do.call(rbind, paths), "strata")
write_numbers(cbind(folds$lambda, folds$cvm, folds$cvsd), "strata_folds")
strata <- survival::strata  # which a formula knows by this name alone
fits <- lapply(c("efron", "breslow"), function(ties) {
  control <- survival::coxph.control(eps = 1e-13, toler.chol = 1e-14, iter.max = 100)
  survival::coxph(survival::Surv(time, event) ~ x + strata(stratum), ties = ties, control = control)
})
write_numbers(do.call(rbind, lapply(fits, coef)), "strata_coxph")
# What survfit makes of them: the cumulative hazard of a row whose features are 0, at each time of each stratum.
hazards <- lapply(1:2, function(k) {
  found <- survival::basehaz(fits[[k]], centered = FALSE)
  cbind(k, as.integer(sub(".*=", "", found$strata)), found$time, found$hazard)
})
write_numbers(do.call(rbind, hazards), "strata_survival")
