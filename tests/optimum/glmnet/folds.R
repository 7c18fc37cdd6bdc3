# Writes what tests/report/test_folds_of_glmnet.py compares with: of the rows, weights and factors that terms.R writes, what
# cv.glmnet makes of them over five folds, a line for each λ with alpha, lambda, cvm, cvsd, and whether it is lambda.min
# and lambda.1se. The λ's are handed over, so that cv.glmnet interpolates nothing. Rscript folds.R FOLDER
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
folder <- commandArgs(trailingOnly = TRUE)[1]
data(QuickStartExample, package = "glmnet")
data(BinomialExample, package = "glmnet")
data(PoissonExample, package = "glmnet")

write_numbers <- function(numbers, name) {
  file <- gzfile(file.path(folder, paste0(name, ".csv.gz")), "w")
  for (i in seq_len(nrow(numbers))) cat(sprintf("%.17g", numbers[i, ]), sep = c(rep(",", ncol(numbers) - 1), "\n"), file = file)
  close(file)
}

for (family in c("gaussian", "binomial", "poisson")) {
  example <- list(gaussian = QuickStartExample, binomial = BinomialExample, poisson = PoissonExample)[[family]]
  rows <- 1:100
  x <- example$x[rows, 1:12]
  y <- as.numeric(example$y)[rows]
  weight <- 1 + rows %% 4
  factor <- c(0, 2, 1, 1, 0.5, 1, 3, 1, 1, 0, 1, 1)
  foldid <- 1 + (rows * rows + rows %/% 7) %% 5
  # A fold divides the response of a gaussian by its own sd, which the λ of a ridge part is then relative to.
  standardize <- family != "gaussian"
  lines <- lapply(if (standardize) c(1, 0.5) else 1, function(alpha) {
    same <- list(x, y, family = family, weights = weight, penalty.factor = factor, alpha = alpha,
                 standardize = standardize, thresh = 1e-14, maxit = 1e7)
    lambda <- do.call(glmnet::glmnet, c(same, nlambda = 30))$lambda
    found <- do.call(glmnet::cv.glmnet, c(same, list(lambda = lambda, foldid = foldid)))
    cbind(alpha, found$lambda, found$cvm, found$cvsd, found$lambda == found$lambda.min, found$lambda == found$lambda.1se)
  })
  write_numbers(do.call(rbind, lines), paste0(family, "_folds"))
}
write_numbers(matrix(foldid, ncol = 1), "folds")
