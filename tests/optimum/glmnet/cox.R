# Writes what test_cox.py compares with: rows of glmnet's CoxExample, standardised, with times rounded up so that there are
# ties; paths on them, a line for each λ with alpha, lambda and the weights; what cv.glmnet makes of them over five folds;
# and, where R's survival is installed, coxph's weights with the ties of Efron and of Breslow. Rscript cox.R FOLDER
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
folder <- commandArgs(trailingOnly = TRUE)[1]
data(CoxExample, package = "glmnet")
x <- CoxExample$x[1:150, 1:8]
x <- scale(x, scale = apply(x, 2, function(column) sqrt(mean((column - mean(column))^2))))
time <- ceiling(CoxExample$y[1:150, "time"] * 3) / 3
event <- CoxExample$y[1:150, "status"]
foldid <- 1 + 1:150 %% 5
y <- cbind(time = time, status = event)

write_numbers <- function(numbers, name) {
  file <- gzfile(file.path(folder, paste0(name, ".csv.gz")), "w")
  for (i in seq_len(nrow(numbers))) cat(sprintf("%.17g", numbers[i, ]), sep = c(rep(",", ncol(numbers) - 1), "\n"), file = file)
  close(file)
}

same <- list(x, y, family = "cox", standardize = FALSE, thresh = 1e-14, maxit = 1e7)
lines <- lapply(c(1, 0.5), function(alpha) {
  fit <- do.call(glmnet::glmnet, c(same, alpha = alpha, nlambda = 20))
  found <- do.call(glmnet::cv.glmnet, c(same, list(alpha = alpha, lambda = fit$lambda, foldid = foldid)))
  list(cbind(alpha, fit$lambda, t(as.matrix(coef(fit)))),
       cbind(alpha, found$lambda, found$cvm, found$cvsd, found$lambda == found$lambda.min,
             found$lambda == found$lambda.1se))
})
write_numbers(cbind(x, time, event, foldid), "cox_rows")
write_numbers(do.call(rbind, lapply(lines, `[[`, 1)), "cox")
write_numbers(do.call(rbind, lapply(lines, `[[`, 2)), "cox_folds")
if (requireNamespace("survival", quietly = TRUE)) {
  weights <- sapply(c("efron", "breslow"), function(ties) {
    control <- survival::coxph.control(eps = 1e-13, toler.chol = 1e-14, iter.max = 100)
    coef(survival::coxph(survival::Surv(time, event) ~ x, ties = ties, control = control))
  })
  write_numbers(t(weights), "coxph")
}
